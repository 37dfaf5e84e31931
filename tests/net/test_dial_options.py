"""Who wins among arguments, environment and file; and the log of TLS secrets, on both sides of a real dial."""

from __future__ import annotations

from pathlib import Path

import pytest

import kwik
from kwik.settings import client_config
from tests.net.services import Service, echo, receive_all


def speak(conn: kwik.Conn) -> None:
    with conn:
        conn.sendall(b"hello")
        conn.shutdown(1)
        assert receive_all(conn) == b"hello"


class TestOrder:
    @pytest.fixture
    def service(self, echo_service: Service) -> Service:
        echo_service.start(echo)
        return echo_service

    @pytest.fixture
    def broken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable that nobody can read without noticing."""
        monkeypatch.setenv("KWIK_MAX_PATHS", "many")

    def test_a_dial_reads_the_environment(self, service: Service, broken: None):
        with pytest.raises(kwik.ConfigError, match="KWIK_MAX_PATHS='many'"):
            service.dial()

    def test_a_config_is_complete(self, service: Service, broken: None):
        speak(service.dial(config=kwik.Config()))

    def test_a_dial_reads_the_file(self, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("KWIK_CONFIG", str(tmp_path / "missing.toml"))
        with pytest.raises(kwik.ConfigError, match=r"missing\.toml"):
            service.dial()
        speak(service.dial(config=kwik.Config()))

    def test_all_three_can_be_joined(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        (tmp_path / "kwik.toml").write_text("[client]\nmax_paths = 2\nreplicas = 2\nkeepalive_s = 2.0\n")
        monkeypatch.setenv("KWIK_CONFIG", str(tmp_path / "kwik.toml"))
        monkeypatch.setenv("KWIK_MAX_PATHS", "3")
        monkeypatch.setenv("KWIK_REPLICAS", "3")
        config = client_config({"replicas": 4})
        assert (config.replicas, config.max_paths, config.keepalive_s) == (4, 3, 2.0)

    @pytest.mark.parametrize("config", [kwik.Config(dial_time_s=0.01), None], ids=["config", "environment"])
    def test_the_dials_own_time_wins(
        self, service: Service, config: kwik.Config | None, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("KWIK_DIAL_TIME_S", "0.01")
        speak(service.dial(config=config, timeout=20))

    def test_a_servers_config_is_complete_and_arguments_win(
        self, echo_service: Service, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("KWIK_SERVER_LINGER_S", "7")
        given = kwik.ServerConfig(service="other.example:1", server_id="other", drain_s=5)
        with echo_service.listener(config=given, server_id="mine", replicated=True) as listener:
            config = listener.server.config
            assert (config.service, config.server_id, config.replicated) == ("echo.example:7", "mine", True)
            assert (config.linger_s, config.drain_s) == (120.0, 5.0)
        with echo_service.listener() as listener:
            assert listener.server.config.linger_s == 7.0


class TestKeylog:
    @pytest.fixture
    def environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "environment.log"))
        return tmp_path / "environment.log"

    def test_both_sides_write_the_same_secrets_into_files_that_are_private(
        self, echo_service: Service, tmp_path: Path, environment: Path
    ):
        logs = [tmp_path / "client.log", tmp_path / "server.log"]
        echo_service.start(echo, keylog=str(logs[1]))
        speak(echo_service.dial(keylog=str(logs[0])))
        client, server = (sorted(log.read_text("ascii").splitlines()) for log in logs)
        assert client == server
        labels = {line.split()[0] for line in client}
        assert {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"} <= labels
        assert {log.stat().st_mode & 0o777 for log in logs} == {0o600}
        assert not environment.exists()

    def test_nothing_is_written_unasked(self, echo_service: Service, environment: Path):
        echo_service.start(echo)
        speak(echo_service.dial())
        assert not environment.exists()

    def test_a_file_that_cannot_be_written_is_said_at_once(self, echo_service: Service, tmp_path: Path):
        wrong = str(tmp_path / "no" / "such" / "folder.log")
        with pytest.raises(kwik.ConfigError, match="cannot write the TLS key log"):
            echo_service.listener(keylog=wrong)
        echo_service.start(echo)
        with pytest.raises(kwik.ConfigError, match="cannot write the TLS key log"):
            echo_service.dial(keylog=wrong)
