import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.errors import ConfigError
from kwik.types import MAX_SERVICE_BYTES, Address, Instance, parse_service, service_address

names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,20}[A-Za-z0-9])?(\.[a-z]{1,10}){0,3}", fullmatch=True)
hosts = names | st.ip_addresses().map(str)
ports = st.integers(0, 65535)


@given(hosts, ports)
def test_addresses_are_read_as_they_are_written(host: str, port: int):
    address = Address(host, port)
    assert Address.parse(str(address)) == address
    assert address.format() == str(address) == f"{address}"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("files.example:80", "files.example", 80),
        ("10.0.0.1:4433", "10.0.0.1", 4433),
        ("[::1]:0", "::1", 0),
        ("[2001:DB8::0001]:443", "2001:db8::1", 443),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
        ("my_host.example.:65535", "my_host.example.", 65535),
        ("a" * 255 + ":1", "a" * 255, 1),
    ],
)
def test_addresses(text: str, host: str, port: int):
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "has no port"),
        ("files.example", "write HOST:PORT"),
        ("files.example:", "from 0 to 65535"),
        ("files.example:http", "from 0 to 65535"),
        ("files.example:65536", "from 0 to 65535"),
        ("files.example:+80", "from 0 to 65535"),
        ("files.example: 80", "from 0 to 65535"),
        ("files.example:８０", "from 0 to 65535"),  # noqa: RUF001  # digits, but not ours
        (":80", "0.0.0.0:PORT"),
        ("::1:80", "in brackets"),
        ("[::1]", "from 0 to 65535"),
        ("[nonsense]:80", "not an IPv6 address"),
        ("[]:80", "not an IPv6 address"),
        ("[fe80::1%\x00]:80", "zone"),
        ("a b:80", "neither a host name"),
        ("a..b:80", "neither a host name"),
        ("-a:80", "neither a host name"),
        ("b\u00fccher.example:80", "xn--"),
        ("a" * 256 + ":1", "longer than 255"),
    ],
)
def test_what_is_no_address_is_refused_with_advice(text: str, hint: str):
    with pytest.raises(ConfigError, match=hint.replace(".", r"\.")):
        Address.parse(text)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_config_error(text: str):
    try:
        address = Address.parse(text)
    except ConfigError:
        return
    assert Address.parse(str(address)) == address


@given(hosts, st.integers(1, 65535))
def test_a_service_has_one_spelling(host: str, port: int):
    address = Address(host, port)
    name = parse_service(str(address))
    assert name == parse_service(str(address).upper()) == parse_service(name)
    assert service_address(name) == (host.lower(), port)
    assert len(name) <= MAX_SERVICE_BYTES


def test_the_longest_service_fits():
    assert len(parse_service("a" * 255 + ":65535")) == MAX_SERVICE_BYTES


@pytest.mark.parametrize("text", ["files.example", "files.example:0", ":80"])
def test_what_is_no_service_is_refused(text: str):
    with pytest.raises(ConfigError):
        parse_service(text)


def test_instances_are_short_in_logs_and_differ_by_incarnation():
    first, second = Instance("s1", bytes(16)), Instance("s1", bytes(15) + b"\1")
    assert str(first) == "s1#00000000"
    assert first != second
