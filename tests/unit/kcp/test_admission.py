"""Hello, join and proofs: both sides against each other and against forgers."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.config import ServerConfig
from kwik.errors import ErrorCode
from kwik.kcp.admission import (
    MAX_INSTANCES,
    ClientAdmission,
    MustJoin,
    NewInstance,
    Refuse,
    client_proof,
    server_proof,
)
from kwik.kcp.sessions import ServerSessions
from kwik.types import Address, Instance, PathId
from kwik.wire.messages import Join, Joined, ServerHello
from tests.unit.kcp.rig import SERVICE, START

HOME = Address("192.0.2.1", 443)
P1, P2, P3 = PathId(1), PathId(2), PathId(3)


def binding(path: PathId) -> bytes:
    return bytes([path]) * 32


def make() -> tuple[ClientAdmission, ServerSessions]:
    config = ServerConfig(service=SERVICE, server_id="a")
    server = ServerSessions(config, incarnation=b"i" * 16, token_bytes=random.Random(2).randbytes)
    return ClientAdmission(SERVICE, random.Random(1).randbytes), server


def greet(client: ClientAdmission, server: ServerSessions, path: PathId) -> ServerHello:
    hello = server.on_path(path, binding(path), draining=False)
    assert isinstance(hello, ServerHello)
    server.on_client_hello(path, client.compose(path, binding(path)), START)
    return hello


def first(client: ClientAdmission, server: ServerSessions) -> ServerHello:
    hello = greet(client, server, P1)
    assert client.on_server_hello(P1, hello, START) == NewInstance(Instance("a", b"i" * 16))
    client.on_admitted(P1, HOME, hello)
    return hello


def ask(client: ClientAdmission, server: ServerSessions, path: PathId) -> tuple[ServerHello, MustJoin]:
    hello = greet(client, server, path)
    verdict = client.on_server_hello(path, hello, START)
    assert isinstance(verdict, MustJoin)
    return hello, verdict


def test_a_second_path_is_joined_after_proofs_in_both_directions():
    client, server = make()
    first(client, server)
    hello, verdict = ask(client, server, P2)
    answer = server.on_join(P2, verdict.message, START)
    assert isinstance(answer, Joined)
    assert client.on_joined(P2, answer) == verdict.instance
    known = client.on_admitted(P2, HOME, hello)
    assert list(known.paths) == [P1, P2]
    assert server.session_of(P1) == server.session_of(P2) == known.session
    assert server.paths_of(known.session) == (P1, P2)
    assert isinstance(client.on_joined(P2, answer), Refuse)


def test_the_proofs_are_those_of_the_specification():
    parts = b"c" * 16 + b"s" * 16 + b"b" * 32
    expected = hmac.new(b"k" * 32, b"kwik/1 join client" + parts, hashlib.sha256).digest()
    assert client_proof(b"k" * 32, b"c" * 16, b"s" * 16, b"b" * 32) == expected
    expected = hmac.new(b"k" * 32, b"kwik/1 join server" + parts, hashlib.sha256).digest()
    assert server_proof(b"k" * 32, b"c" * 16, b"s" * 16, b"b" * 32) == expected


@given(st.integers(0, 3), st.integers(0, 15), st.integers(1, 255))
def test_a_proof_holds_for_its_secret_nonces_and_binding_alone(part: int, index: int, flip: int):
    inputs = [bytes(32), bytes(16), bytes(16), bytes(32)]
    changed = list(inputs)
    mutable = bytearray(changed[part])
    mutable[index] ^= flip
    changed[part] = bytes(mutable)
    assert client_proof(*inputs) != client_proof(*changed)
    assert client_proof(*inputs) != server_proof(*inputs)


def test_a_relayed_challenge_fails_for_the_binding_differs():
    client, server = make()
    first(client, server)
    _, verdict = ask(client, server, P2)
    # A dishonest server in the middle opens its own path to the true one and passes the client's Join on.
    relayed = server.on_path(P3, binding(P3), draining=False)
    assert isinstance(relayed, ServerHello)
    server.on_client_hello(P3, ClientAdmission(SERVICE, random.Random(9).randbytes).compose(P3, binding(P3)), START)
    assert server.on_join(P3, verdict.message, START) == Joined(status=2, proof=bytes(32))
    assert server.session_of(P3) is None


def test_the_clients_own_proof_is_no_answer():
    client, server = make()
    first(client, server)
    _, verdict = ask(client, server, P2)
    refusal = client.on_joined(P2, Joined(status=0, proof=verdict.message.proof))
    assert isinstance(refusal, Refuse)
    assert refusal.code is ErrorCode.ADMISSION


@pytest.mark.parametrize(("status", "forgotten"), [(1, True), (2, False), (9, False)])
def test_other_answers_refuse(status: int, forgotten: bool):
    client, server = make()
    first(client, server)
    ask(client, server, P2)
    refusal = client.on_joined(P2, Joined(status=status, proof=bytes(32)))
    assert isinstance(refusal, Refuse)
    assert (refusal.code, refusal.forgotten) == (ErrorCode.ADMISSION, forgotten)


def test_an_answer_without_a_question_is_a_protocol_error():
    client, server = make()
    first(client, server)
    refusal = client.on_joined(P1, Joined(status=0, proof=bytes(32)))
    assert isinstance(refusal, Refuse)
    assert refusal.code is ErrorCode.PROTOCOL


def test_version_and_service_are_checked_first():
    client, server = make()
    hello = greet(client, server, P1)
    for changed, code in (
        (dataclasses.replace(hello, version=2), ErrorCode.WRONG_VERSION),
        (dataclasses.replace(hello, service="mail.example:25"), ErrorCode.WRONG_SERVICE),
    ):
        refusal = client.on_server_hello(P1, changed, START)
        assert isinstance(refusal, Refuse)
        assert refusal.code is code


def test_an_instance_stays_known_for_its_linger_time_after_its_last_path():
    client, server = make()
    first(client, server)
    instance = Instance("a", b"i" * 16)
    client.on_path_down(P1, instance, START)
    client.on_path_down(P1, instance, START + 100)  # repeats do not count again
    assert client.known(instance, START + 120) is not None
    assert client.known(instance, START + 121) is None
    assert client.known(instance) is not None
    hello = greet(client, server, P2)
    assert isinstance(client.on_server_hello(P2, hello, START + 121), NewInstance)
    known = client.on_admitted(P2, HOME, hello)
    assert list(known.paths) == [P2]
    client.forget(instance)
    client.forget(instance)
    assert client.instances() == []


def test_a_join_to_a_session_that_was_replaced_meanwhile_is_refused():
    client, server = make()
    first(client, server)
    hello, verdict = ask(client, server, P2)
    answer = server.on_join(P2, verdict.message, START)
    assert isinstance(answer, Joined)
    client.forget(verdict.instance)
    third = greet(client, server, P3)
    client.on_server_hello(P3, third, START)
    client.on_admitted(P3, HOME, third)
    assert isinstance(client.on_joined(P2, answer), Refuse)
    client.forget(verdict.instance)
    assert client.on_joined(P2, answer) == verdict.instance  # the proof itself was right
    client.on_admitted(P2, HOME, hello)
    assert client.instances()[0].last_path == P2


def test_pathless_instances_are_bounded():
    client, server = make()
    hello = greet(client, server, P1)
    for number in range(MAX_INSTANCES + 3):
        path = PathId(number + 1)
        client.compose(path, bytes(32))
        other = dataclasses.replace(hello, incarnation=number.to_bytes(16, "big"))
        verdict = client.on_server_hello(path, other, START)
        assert isinstance(verdict, NewInstance)
        client.on_admitted(path, HOME, other)
        client.on_path_down(path, verdict.instance, START + number)
    assert len(client.instances()) == MAX_INSTANCES + 1
    assert client.instances()[0].last_path == 3


def test_a_join_is_bound_to_one_path():
    client, server = make()
    first(client, server)
    _, verdict = ask(client, server, P2)
    forged = Join(session=verdict.message.session, proof=bytes(32))
    assert server.on_join(P2, forged, START) == Joined(status=2, proof=bytes(32))
    refusal = server.on_join(P2, verdict.message, START)  # no second guess
    assert isinstance(refusal, Refuse)
    assert refusal.code is ErrorCode.PROTOCOL
