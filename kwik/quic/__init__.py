"""Paths over QUIC: UDP sockets, TLS identity and pipes. The only package that knows aioquic.

`QuicEndpoint` owns sockets and timers, `QuicPath` is one path with its pipes (and can be driven without any socket),
`PathConnection` bends aioquic to the rules of SPEC §3. Everything here runs on one event loop and is not thread-safe.
"""

from kwik.quic.adapter import PathEnd, PathEvents, QuicPath
from kwik.quic.endpoint import QuicEndpoint
from kwik.quic.limits import QuicLimits
from kwik.quic.tls import ClientTls, ServerTls

__all__ = ["ClientTls", "PathEnd", "PathEvents", "QuicEndpoint", "QuicLimits", "QuicPath", "ServerTls"]
