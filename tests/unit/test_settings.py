"""Settings: who wins, and what the errors say."""

from pathlib import Path

import pytest

from kwik.config import Config, ServerConfig
from kwik.errors import ConfigError
from kwik.settings import client_config, server_config


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kwik.toml"
    path.write_text(
        '[client]\nblock_bytes = 32768\nmax_paths = 3\nkeepalive_s = 2\n'
        '[server]\nservice = "files.example:80"\nserver_id = "a"\nreplicated = true\n'
    )  # fmt: skip
    return path


def test_nothing_said_means_the_defaults():
    assert client_config(environ={}) == Config()
    assert server_config({"service": "a.example:1", "server_id": "x"}, environ={}) == ServerConfig(
        service="a.example:1", server_id="x"
    )


def test_arguments_win_over_the_environment_which_wins_over_the_file(file):
    environ = {"KWIK_CONFIG": str(file), "KWIK_MAX_PATHS": "4", "KWIK_KEEPALIVE_S": "0.5"}
    config = client_config({"keepalive_s": 3}, environ=environ)
    assert (config.block_bytes, config.max_paths, config.keepalive_s) == (32768, 4, 3.0)
    assert isinstance(config.keepalive_s, float)


def test_a_server_reads_its_own_table_and_variables(file):
    environ = {"KWIK_MEMORY_BYTES": "5M", "KWIK_SERVER_MEMORY_BYTES": "7M", "KWIK_SERVER_REPLICATED": "no"}
    config = server_config({"server_id": "b"}, environ=environ, file=file)
    assert config.service == "files.example:80"
    assert config.server_id == "b"
    assert config.memory_bytes == 7 * 1024 * 1024
    assert config.replicated is False


def test_a_named_file_wins_over_the_variable(file, tmp_path):
    assert client_config(environ={"KWIK_CONFIG": str(tmp_path / "missing")}, file=file).max_paths == 3


def test_the_process_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("KWIK_MAX_PATHS", "5")
    monkeypatch.delenv("KWIK_CONFIG", raising=False)
    assert client_config().max_paths == 5


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"KWIK_MAX_PATHS": "many"}, "KWIK_MAX_PATHS='many' must be a whole number"),
        ({"KWIK_KEEPALIVE_S": "soon"}, "KWIK_KEEPALIVE_S='soon' must be a number"),
        ({"KWIK_BLOCK_BYTES": "5K"}, "power of two.*KWIK_BLOCK_BYTES"),
        ({"KWIK_CONFIG": "/nowhere/kwik.toml"}, "cannot read the configuration file /nowhere/kwik.toml"),
    ],
)
def test_errors_name_the_variable(environ, text):
    with pytest.raises(ConfigError, match=text):
        client_config(environ=environ)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("[client]\nblok_bytes = 1", "blok_bytes in .client. of .*kwik.toml: known are block_bytes"),
        ("[client]\nmax_paths = '3'", "max_paths in .client. of .* must be of type int, not '3'"),
        ("[client]\nmax_paths = true", "must be of type int, not True"),
        ("[clients]\n", "unknown table or key 'clients'"),
        ("client = 3", "must be a table"),
        ("[client\n", "is not TOML"),
        ("[client]\nkeepalive_s = 0", "keepalive_s must be positive .from keepalive_s in .client. of"),
    ],
)
def test_errors_name_the_file(tmp_path, content, text):
    path = tmp_path / "kwik.toml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=text):
        client_config(environ={}, file=path)


def test_errors_name_the_argument():
    with pytest.raises(ConfigError, match="unknown setting colour"):
        client_config({"colour": "red"}, environ={})
    with pytest.raises(ConfigError, match="max_paths must be of type int"):
        client_config({"max_paths": "3"}, environ={})


def test_a_server_needs_its_names():
    with pytest.raises(ConfigError, match="server_id and service"):
        server_config(environ={})


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("1", True), ("Off", False), ("false", False)])
def test_yes_and_no(text, value):
    environ = {"KWIK_SERVER_SERVICE": "a.example:1", "KWIK_SERVER_SERVER_ID": "x", "KWIK_SERVER_REPLICATED": text}
    assert server_config(environ=environ).replicated is value
    with pytest.raises(ConfigError, match="yes or no"):
        server_config(environ={**environ, "KWIK_SERVER_REPLICATED": "maybe"})
