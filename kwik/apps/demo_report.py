"""What the demo found out, as text and as JSON. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from kwik.apps.demo_measure import ReadLog, alone_s, links_bytes
from kwik.apps.demo_stage import DemoPlan
from kwik.apps.figures import bit_rate, rate_text, size_text, time_text

STEADY_SHARE: Final = 0.85
"""Of the links' raw rate: what several servers should deliver together, at least."""
PAUSE_LIMIT_S: Final = 0.25
"""What the reader should notice of the anchor's death, at most."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one server delivered."""

    server: str
    delivered_bytes: int
    was_killed: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """One run. Instants are those of the log's clock."""

    plan: DemoPlan
    log: ReadLog
    sample: ReadLog | None
    """What one server delivered alone, before."""
    sha256: str
    wanted_sha256: str
    shares: tuple[Share, ...]
    all_help_at: float | None
    """When the last server delivered its first block; None if one never did."""
    killed_at: float | None
    stats: dict[str, int]
    """The stream's counters."""
    found_by: str = "list"
    """How the client found the servers: "mdns" or "list"."""

    @property
    def is_right(self) -> bool:
        """The file arrived as it is."""
        return self.sha256 == self.wanted_sha256 and self.log.received_bytes == self.plan.size_bytes

    @property
    def steady(self) -> tuple[float, float] | None:
        """While all servers help: from the last one's first block to the kill, or to the end."""
        stop = self.killed_at if self.killed_at is not None else (self.log.times or [0.0])[-1]
        if self.all_help_at is None or self.all_help_at >= stop:
            return None
        return self.all_help_at, stop

    @property
    def links_bytes(self) -> float:
        """What the links could carry while they had a living server."""
        whole_s = self.log.duration_s
        lives = [whole_s] * self.plan.servers
        if self.killed_at is not None:
            lives[0] = self.killed_at - self.log.started_at
        return links_bytes(self.plan.rate_bps, lives)

    @property
    def kill_pause_s(self) -> float | None:
        """The reader's longest pause that begins within 1 s after the kill, or was under way when it came."""
        if self.killed_at is None:
            return None
        return self.log.longest_pause_s(after=self.killed_at, before=self.killed_at + 1.0)

    @property
    def steady_holds(self) -> bool | None:
        """Whether the servers together delivered what they should; None if that is not the question."""
        if self.plan.servers == 1:
            return None
        return self.steady is not None and self.log.goodput_bps(*self.steady) >= self.steady_wanted_bps

    @property
    def steady_wanted_bps(self) -> float:
        """What they should."""
        return STEADY_SHARE * self.plan.rate_bps * self.plan.servers

    @property
    def pause_holds(self) -> bool | None:
        """Whether the pause at the kill was short; None if nobody was killed."""
        return None if self.kill_pause_s is None else self.kill_pause_s < PAUSE_LIMIT_S


def as_json(seen: Observed) -> dict[str, Any]:
    """Everything, in numbers."""
    steady, plan, log = seen.steady, seen.plan, seen.log
    return {
        "ok": seen.is_right,
        "sha256": seen.sha256,
        "bytes": log.received_bytes,
        "seconds": round(log.duration_s, 3),
        "goodput_mbit_s": _mbit(log.goodput_bps()),
        "steady_goodput_mbit_s": None if steady is None else _mbit(log.goodput_bps(*steady)),
        "steady_seconds": None if steady is None else round(steady[1] - steady[0], 3),
        "links_raw_mbit_s": _mbit(plan.rate_bps * plan.servers),
        "links_raw_bytes": round(seen.links_bytes),
        "longest_pause_s": round(log.longest_pause_s(), 4),
        "kill_pause_s": None if seen.kill_pause_s is None else round(seen.kill_pause_s, 4),
        "killed": next((share.server for share in seen.shares if share.was_killed), None),
        "killed_after_s": None if seen.killed_at is None else round(seen.killed_at - log.started_at, 3),
        "one_server_extrapolated_s": None if seen.sample is None else round(alone_s(seen.sample, plan.size_bytes), 3),
        "one_server_sample_bytes": 0 if seen.sample is None else seen.sample.received_bytes,
        "first_byte_s": round(log.first_byte_s, 4),
        "shares": {share.server: share.delivered_bytes for share in seen.shares},
        "stats": seen.stats,
        "found_by": seen.found_by,
        "steady_holds": seen.steady_holds,
        "pause_holds": seen.pause_holds,
    }


def as_text(seen: Observed) -> str:
    """For a person."""
    rows = [("SHA-256", f"right, {seen.sha256[:16]}…" if seen.is_right else f"WRONG: {seen.sha256}")]
    rows.append(("size", size_text(seen.log.received_bytes)))
    rows.extend(_time_rows(seen))
    rows.extend(_rate_rows(seen))
    rows.append(("shares", ", ".join(_share_text(share, seen.log.received_bytes) for share in seen.shares)))
    rows.append(("longest pause", f"{time_text(seen.log.longest_pause_s())} between two reads"))
    if seen.kill_pause_s is not None:
        rows.append(
            ("at the kill", f"{time_text(seen.kill_pause_s)}, the longest pause that began within 1 s after it")
        )
    rows.extend(_verdict_rows(seen))
    return "\n".join(f"  {name:<14} {text}" for name, text in rows)


def _verdict_rows(seen: Observed) -> list[tuple[str, str]]:
    """Whether the figures are what they should be; the exit code is about the file alone."""
    parts = []
    if seen.steady_holds is not None:
        rate = "none" if seen.steady is None else rate_text(seen.log.goodput_bps(*seen.steady))
        parts.append(f"steady {rate} (at least {rate_text(seen.steady_wanted_bps)})")
    if seen.kill_pause_s is not None:
        parts.append(f"at the kill {time_text(seen.kill_pause_s)} (under {time_text(PAUSE_LIMIT_S)})")
    if not parts:
        return []
    holds = False not in (seen.steady_holds, seen.pause_holds)
    return [("verdict", f"the figures {'hold' if holds else 'DO NOT HOLD'}: {', '.join(parts)}")]


def _time_rows(seen: Observed) -> list[tuple[str, str]]:
    rows = [("time", f"{time_text(seen.log.duration_s)} from before the dial to the last byte")]
    if seen.sample is not None:
        alone = alone_s(seen.sample, seen.plan.size_bytes)
        part = size_text(seen.sample.received_bytes)
        rows.append(("one server", f"would take {time_text(alone)} (extrapolated from {part} in this run)"))
    return rows


def _rate_rows(seen: Observed) -> list[tuple[str, str]]:
    log, plan = seen.log, seen.plan
    raw_bps, several = plan.rate_bps * plan.servers, plan.servers > 1
    links = "the links together" if several else "the link"
    rows = [("links", f"{rate_text(raw_bps)}: {links}, raw (IP packets; about 94% of that can be payload)")]
    whole_bps, carried_bps = log.goodput_bps(), bit_rate(seen.links_bytes, log.duration_s)
    alive = (
        f" of {rate_text(carried_bps)}, the links of living servers" if seen.killed_at is not None else f" of {links}"
    )
    rows.append(("goodput", f"{rate_text(whole_bps)} over the whole run, {_part(whole_bps, carried_bps)}{alive}"))
    if seen.steady is not None:
        steady_bps = log.goodput_bps(*seen.steady)
        servers = f"all {plan.servers} servers deliver" if several else "the server delivers"
        rows.append(("steady", f"{rate_text(steady_bps)} while {servers}, {_part(steady_bps, raw_bps)} of {links}"))
    elif several:
        rows.append(("steady", "one of the servers never delivered a block"))
    return rows


def _share_text(share: Share, total_bytes: int) -> str:
    killed = " (killed)" if share.was_killed else ""
    return f"{share.server} {share.delivered_bytes / max(total_bytes, 1):.0%}{killed}"


def _part(value: float, whole: float) -> str:
    return f"{value / whole:.0%}" if whole else "0%"


def _mbit(bits_per_second: float) -> float:
    return round(bits_per_second / 1e6, 3)
