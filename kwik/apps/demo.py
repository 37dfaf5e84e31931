"""The demo: real servers behind emulated links, one download over all of them, the anchor killed on the way."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kwik.apps.demo_children import Child, Children, DemoError
from kwik.apps.demo_measure import ReadLog, alone_s
from kwik.apps.demo_report import Observed, Share
from kwik.apps.demo_show import Screen, ServerRow
from kwik.apps.demo_stage import FILE_NAME, LOOPBACK, DemoPlan, Stage, set_stage
from kwik.apps.download import DownloadError, Target, bytes_by_server, request
from kwik.apps.figures import rate_text, size_text, time_text
from kwik.blocking import dial
from kwik.errors import NoServers

if TYPE_CHECKING:
    from kwik.conn import Conn
    from kwik.kdp.snapshots import StreamStats

PIECE_BYTES: Final = 64 * 1024
LOOK_EVERY_S: Final = 0.25
DIAL_LIMIT_S: Final = 15.0
READ_LIMIT_S: Final = 90.0
"""A reader that gets nothing for so long gives up: longer than Kwik itself tries to recover."""


def run_demo(plan: DemoPlan, screen: Screen, keep: Path | None = None) -> Observed:
    """Set the stage, download, kill, measure, and end every process that was started.

    `keep` is a folder to work in, which stays; a temporary one is removed. Raises DemoError, KwikError and OSError for
    what could not be done; a wrong file is not an error but a result.
    """
    with _folder(keep) as folder, Children() as children:
        screen.say(_announcement(plan))
        stage = set_stage(plan, folder, children)
        if not stage.announced:
            screen.say("multicast does not work on loopback here: the servers are found by a list instead of mDNS")
        sample = _sample(plan, stage, screen)
        return _Run(plan, stage, screen).download(sample)


class _Run:
    """The main download, on this thread, and a second thread that looks at it and kills."""

    def __init__(self, plan: DemoPlan, stage: Stage, screen: Screen) -> None:
        self._plan = plan
        self._stage = stage
        self._screen = screen
        self._wake = threading.Event()
        self._is_over = False
        self._received_bytes = 0
        self._killed: tuple[str, float] | None = None
        self._all_help_at: float | None = None
        self._failure: Exception | None = None
        self._found_by = "list"

    def download(self, sample: ReadLog | None) -> Observed:
        started_at = time.monotonic()
        conn = self._dial()
        looking = threading.Thread(target=self._look, args=[conn], name="kwik-demo", daemon=True)
        try:
            looking.start()
            log, digest = read_all(conn, self._stage.service, started_at, on_bytes=self._on_bytes)
        finally:
            self._is_over = True
            self._wake.set()
            looking.join()
            stats = conn.stats()
            conn.close()
            self._screen.clear()
        if self._failure is not None:
            raise self._failure
        self._note_helpers(stats)
        return self._observed(log, digest, sample, stats)

    def _dial(self) -> Conn:
        stage = self._stage
        if stage.announced:
            from kwik.discovery.mdns import MdnsProvider

            provider = MdnsProvider([LOOPBACK])
            try:
                conn = dial(stage.service, servers=[], discovery=[provider], cafile=stage.cafile, timeout=DIAL_LIMIT_S)
            except NoServers:
                self._screen.say("mDNS found nobody: the servers are found by a list instead")
            else:
                self._screen.say("found by mDNS; now http.client downloads over kwik.dial()")
                self._found_by = "mdns"
                return conn
        return dial(stage.service, servers=stage.addresses, cafile=stage.cafile, timeout=DIAL_LIMIT_S)

    def _on_bytes(self, received_bytes: int) -> None:
        if self._failure is not None:
            raise self._failure
        before, self._received_bytes = self._received_bytes, received_bytes
        mark = self._plan.size_bytes * self._plan.kill_share
        if before < mark <= received_bytes:
            self._wake.set()  # not here: whoever reads must not wait for anything else

    # ------------------------------------------------------------ the second thread

    def _look(self, conn: Conn) -> None:
        try:
            while not self._is_over:
                self._wake.wait(LOOK_EVERY_S)
                self._wake.clear()
                stats = conn.stats()
                if stats is not None:
                    self._on_stats(stats)
        except Exception as error:  # noqa: BLE001 - raised again by the first thread
            self._failure = error

    def _on_stats(self, stats: StreamStats) -> None:
        self._note_helpers(stats)
        killed = self._killed[0] if self._killed is not None else None
        anchor = next((share.server_id for share in stats.shares if share.role == "anchor"), "")
        rows = [
            ServerRow(name, "killed" if name == killed else "anchor" if name == anchor else "helper", count)
            for name, count in sorted(bytes_by_server(stats.shares).items())
        ]
        self._screen.show(rows, self._received_bytes, self._plan.size_bytes, time.monotonic())
        is_due = self._received_bytes >= self._plan.size_bytes * self._plan.kill_share
        if self._plan.kill and self._killed is None and is_due and not self._is_over:
            self._kill(stats)

    def _kill(self, stats: StreamStats) -> None:
        name = next((share.server_id for share in stats.shares if share.role == "anchor"), "")
        child: Child | None = self._stage.servers.get(name)
        if child is None:
            return  # none for a moment: the next look finds the new one
        at = time.monotonic()
        child.kill()
        self._killed = (name, at)
        self._screen.say(f"killed {name} (kill -9), the anchor, at {self._received_bytes / self._plan.size_bytes:.0%}")

    def _note_helpers(self, stats: StreamStats | None) -> None:
        """Once every server has delivered, when the last of them began."""
        if stats is None or self._all_help_at is not None:
            return
        began: dict[str, float] = {}
        for share in stats.shares:
            if share.first_block_at is not None:
                began[share.server_id] = min(share.first_block_at, began.get(share.server_id, share.first_block_at))
        if len(began) >= self._plan.servers:
            self._all_help_at = max(began.values())

    def _observed(self, log: ReadLog, digest: str, sample: ReadLog | None, stats: StreamStats | None) -> Observed:
        killed = self._killed[0] if self._killed is not None else None
        delivered = bytes_by_server(stats.shares) if stats is not None else {}
        counts = asdict(stats) if stats is not None else {}
        return Observed(
            plan=self._plan,
            log=log,
            sample=sample,
            sha256=digest,
            wanted_sha256=self._stage.sha256,
            shares=tuple(Share(name, delivered.get(name, 0), name == killed) for name in self._stage.servers),
            all_help_at=self._all_help_at,
            killed_at=self._killed[1] if self._killed is not None else None,
            stats={name: value for name, value in counts.items() if type(value) is int},
            found_by=self._found_by,
        )


def read_all(
    conn: Conn,
    service: str,
    started_at: float,
    *,
    headers: dict[str, str] | None = None,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> tuple[ReadLog, str]:
    """Fetch the demo's file with http.client; returns when every read was and the SHA-256 of what came."""
    conn.settimeout(READ_LIMIT_S)
    response = request(conn, Target.parse(f"http://{service}/{FILE_NAME}"), headers)
    if response.status not in (200, 206):
        raise DownloadError(f"the demo's server answers {response.status} {response.reason}")
    log, digest = ReadLog(started_at), hashlib.sha256()
    while data := response.read1(PIECE_BYTES):
        now = time.monotonic()
        digest.update(data)
        on_bytes(log.add(now, len(data)))
    return log, digest.hexdigest()


def _sample(plan: DemoPlan, stage: Stage, screen: Screen) -> ReadLog | None:
    """What one server does alone, over its link."""
    if plan.sample_bytes == 0:
        return None
    started_at = time.monotonic()
    with dial(stage.service, servers=stage.addresses[:1], cafile=stage.cafile, timeout=DIAL_LIMIT_S) as conn:
        part = {"Range": f"bytes=0-{plan.sample_bytes - 1}"}
        log, _ = read_all(conn, stage.service, started_at, headers=part)
    took, rate = time_text(log.duration_s), rate_text(log.settled_bps(log.received_bytes // 3))
    whole = time_text(alone_s(log, plan.size_bytes))
    screen.say(
        f"one server alone: {size_text(log.received_bytes)} in {took}, {rate};"
        f" {size_text(plan.size_bytes)} would take {whole} (extrapolated)"
    )
    return log


def _announcement(plan: DemoPlan) -> str:
    who = "1 server" if plan.servers == 1 else f"{plan.servers} independent servers of one service"
    each = "behind" if plan.servers == 1 else "each behind"
    link = f"a link of {rate_text(plan.rate_bps)} and {time_text(plan.rtt_s)} round trip"
    return f"{who}, {each} {link}; a file of {size_text(plan.size_bytes)}"


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="kwik-demo-") as made:
            yield Path(made)
        return
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise DemoError(f"{keep} is not empty: name a new folder")
    yield keep.resolve()
