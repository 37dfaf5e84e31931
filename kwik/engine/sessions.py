"""The sessions of this process: dials that agree in everything that concerns trust and servers share one."""

from __future__ import annotations

import os
from dataclasses import dataclass

from kwik.config import Config
from kwik.engine.client import ClientSession
from kwik.engine.sources import SourceSpec, build_providers
from kwik.engine.thread import Engine
from kwik.quic import ClientTls
from kwik.types import ServiceName, service_address


@dataclass(frozen=True, slots=True)
class TrustSpec:
    """Whom a dial believes; see ClientTls."""

    cafile: str | os.PathLike[str] | None
    keylog: str | None


@dataclass(frozen=True, slots=True)
class SessionKey:
    """Equal keys share a session."""

    service: ServiceName
    trust: TrustSpec
    sources: SourceSpec
    config: Config


class SessionTable:
    """On the engine's thread only, but for `ready`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sessions: dict[SessionKey, ClientSession] = {}

    def ready(self, key: SessionKey) -> ClientSession | None:
        """The session of that key if a dial need not wait for anything there. From any thread: a guess, mostly true."""
        found = self._sessions.get(key)
        return found if found is not None and found.is_ready else None

    def session(self, key: SessionKey) -> ClientSession:
        """The living session of that key, or a new one. Raises ConfigError."""
        for old in [each for each, session in self._sessions.items() if session.is_over]:
            del self._sessions[old]
        found = self._sessions.get(key)
        if found is None:
            tls = ClientTls(
                server_name=service_address(key.service).host, cafile=key.trust.cafile, keylog=key.trust.keylog
            )
            providers = build_providers(key.sources, key.service, key.config.host_delay_s)
            found = ClientSession(self._engine, key.service, config=key.config, tls=tls, providers=providers)
            found.start()
            self._sessions[key] = found
        return found


_tables: dict[Engine, SessionTable] = {}


def sessions_of(engine: Engine) -> SessionTable:
    """The table of this engine."""
    if engine not in _tables:
        # That of a parent process stays: its objects must not be torn down in the child.
        _tables[engine] = SessionTable(engine)
    return _tables[engine]
