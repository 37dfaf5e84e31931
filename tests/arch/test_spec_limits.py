"""The table of SPEC §7 says what the code enforces."""

import re

from kwik.kcp.sessions import MAX_PATHS
from kwik.kdp import order_queue, outbox, reassembler, replica, sending, server, upstream_sink
from kwik.quic.limits import QuicLimits
from tests.arch.tree import ROOT

ENFORCED = {
    "unanswered orders per replica and path": order_queue.MAX_ORDERS,
    "unanswered orders per path": server.MAX_PATH_ORDERS,
    "unanswered PROBEs per replica and path": replica.MAX_PROBES,
    "blocks asked for by ASK_DIGESTS, per replica and path": replica.MAX_ASKED_BLOCKS,
    "unanswered REVOKEs per replica and path": replica.MAX_REVOKES,
    "unanswered OPENs per path": outbox.MAX_OPENS,
    "unanswered ATTACHs per path": outbox.MAX_ATTACHS,
    "unanswered CLOSEs per path": server.MAX_CLOSES,
    "dead replica numbers that a server remembers per session": server.MAX_TOMBSTONES,
    "upstream before the hello, per path": sending.UPSTREAM_BEFORE_HELLO_BYTES,
    "marks held per replica on a server": upstream_sink.MAX_MARKS,
    "copies of one block at the client": reassembler.MAX_COPIES,
    "paths per session": MAX_PATHS,
    "data pipes per side and path": QuicLimits().max_data_pipes,
}
OTHERWISE = {"JOINs per path, in all": "1; another one is PROTOCOL"}
"""Held to by the state of the path (kwik.kcp.sessions), not by a number."""


def table() -> dict[str, str]:
    text = (ROOT / "SPEC.md").read_text("utf-8")
    section = text[text.index("## §7 Limits") : text.index("## §8 ")]
    return dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE))


def test_every_number_of_the_table_is_the_codes():
    stated = {what: value for what, value in table().items() if re.match(r"\d", value) and what not in OTHERWISE}
    assert {what: int(re.match(r"\d+", value)[0]) for what, value in stated.items()} == ENFORCED  # type: ignore[index]


def test_the_others_are_there_too():
    assert OTHERWISE.items() <= table().items()
