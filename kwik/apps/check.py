"""Asks one server who it is: a QUIC handshake, its certificate and its hello. No application notices."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwik.errors import ErrorCode, RemoteProtocolError
from kwik.quic import ClientTls, PathEnd, QuicEndpoint, QuicLimits, QuicPath
from kwik.types import Address, Instance
from kwik.wire.codec import Decoder
from kwik.wire.messages import ServerHello

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of asking one address. `ok` False: `detail` says why not."""

    address: Address
    ok: bool
    detail: str
    instance: Instance | None = None
    replicated: bool = False
    handshake_s: float | None = None
    """From the first packet to the end of the handshake, name lookup included."""


async def check_server(address: Address, service: str, tls: ClientTls, limit_s: float = 3.0) -> Checked:
    """Ask the server there whether it serves `service`, for at most `limit_s` seconds. Never raises for the network."""
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    asking = _Asking(loop)
    path: QuicPath | None = None
    try:
        async with asyncio.timeout(limit_s):
            path = await QuicEndpoint.connect(address, tls, lambda _: asking, QuicLimits())
            hello = await asking.hello
    except TimeoutError:
        return Checked(address, False, f"no answer within {limit_s:g} s")
    except (OSError, UnicodeError) as error:
        return Checked(address, False, str(getattr(error, "strerror", None) or error))
    finally:
        if path is not None and path.endpoint is not None:
            await path.endpoint.close()
    up_at = asking.up_at
    instance = Instance(hello.server_id, hello.incarnation)
    found = Checked(address, True, "ok", instance, hello.replicated, None if up_at is None else up_at - started_at)
    return _judged(found, hello, service)


async def check_all(addresses: Sequence[Address], service: str, tls: ClientTls, limit_s: float = 3.0) -> list[Checked]:
    """`check_server` for each, all at once, in the same order."""
    return list(await asyncio.gather(*(check_server(each, service, tls, limit_s) for each in addresses)))


def _judged(found: Checked, hello: ServerHello, service: str) -> Checked:
    if hello.service != service:
        return Checked(found.address, False, f"serves {hello.service}, not {service}", found.instance)
    if hello.draining:
        return Checked(found.address, False, "drains: it takes no new streams", found.instance, found.replicated)
    return found


class _Asking:
    """Implements PathEvents: waits for the hello."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.hello: asyncio.Future[ServerHello] = loop.create_future()
        self.up_at: float | None = None
        self._decoder = Decoder("server", "control")

    def on_writable(self, path: QuicPath, binding: bytes, now: float) -> None:
        """See PathEvents."""

    def on_up(self, path: QuicPath, now: float) -> None:
        """See PathEvents."""
        self.up_at = now

    def on_data(self, path: QuicPath, pipe: int, data: bytes, now: float) -> None:
        """See PathEvents."""
        if pipe != 0 or self.hello.done():
            return
        try:
            frames = self._decoder.feed(data)
        except RemoteProtocolError as error:
            self._fail(f"speaks another protocol: {error}")
            return
        for frame in frames[:1]:
            if isinstance(frame, ServerHello):
                self.hello.set_result(frame)
            else:
                self._fail("did not say who it is")

    def on_room(self, path: QuicPath, n_bytes: int, now: float) -> None:
        """See PathEvents: nothing is sent."""

    def on_pong(self, path: QuicPath, ping_id: int, now: float) -> None:
        """See PathEvents."""

    def on_down(self, path: QuicPath, reason: PathEnd, now: float) -> None:
        """See PathEvents."""
        known = reason.kind.value.replace("_", " ")
        code = f" {ErrorCode(reason.code).name.lower()}" if reason.code in set(ErrorCode) and not reason.detail else ""
        self._fail(f"{known}{code}: {reason.detail}" if reason.detail else f"{known}{code}")

    def _fail(self, text: str) -> None:
        if not self.hello.done():
            self.hello.set_exception(ConnectionError(text))
            self.hello.exception()  # marked as seen: nobody may be waiting any more
