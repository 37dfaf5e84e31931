"""One reliable byte stream to a service, while the bytes come from several independent servers at once.

An application dials a service, `host:port`, and gets what looks and behaves like one connected socket. Below it, Kwik
keeps a path to each of several servers of that service. One of them, the anchor, says what the stream is; the others
help with blocks that were verified against it, and any of them can take over when it dies.

Where things are, from the top down; each part knows only those below it:

- `kwik.cli`, `kwik.apps`: what a person runs
- `kwik.aio`, `kwik.blocking`, `kwik.conn`: the socket face
- `kwik.engine`: drives the cores; `kwik.quic`, `kwik.discovery`, `kwik.sim`, `kwik.settings`: the outside world
- `kwik.core`: a client and a server, joined from the control plane `kwik.kcp` and the data plane `kwik.kdp`
- `kwik.base`, `kwik.wire`, `kwik.config`, `kwik.types`, `kwik.errors`: what both planes stand on
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kwik import aio, errors
    from kwik.blocking import Listener, create_connection, dial, listen
    from kwik.config import Config, ServerConfig
    from kwik.conn import Conn
    from kwik.errors import ConfigError, ConnectRefused, DialTimeout, KwikError, NoServers, StreamReset

__all__ = [
    "Config",
    "ConfigError",
    "Conn",
    "ConnectRefused",
    "DialTimeout",
    "KwikError",
    "Listener",
    "NoServers",
    "ServerConfig",
    "StreamReset",
    "__version__",
    "aio",
    "create_connection",
    "dial",
    "errors",
    "listen",
]

__version__ = "0.1.0"

# Loaded when first asked for: a command that needs no QUIC (`kwik link`) need not load it.
_HOMES = {
    "blocking": ("Listener", "create_connection", "dial", "listen"),
    "config": ("Config", "ServerConfig"),
    "conn": ("Conn",),
    "errors": ("ConfigError", "ConnectRefused", "DialTimeout", "KwikError", "NoServers", "StreamReset"),
}


def __getattr__(name: str) -> object:
    """Load a public name (PEP 562). Raises AttributeError for any other."""
    if name in ("aio", "errors"):
        return import_module(f"kwik.{name}")
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'kwik' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"kwik.{home}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
