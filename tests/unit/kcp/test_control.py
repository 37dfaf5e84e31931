"""The client's control plane as a whole, in virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from kwik.config import Config
from kwik.errors import ErrorCode
from kwik.kcp.actions import (
    ClosePath,
    InstanceDraining,
    NoCandidates,
    OpenPath,
    PathAdmitted,
    PathGone,
    PingPath,
    SendMessage,
)
from kwik.kcp.health import PathState, PathStateChanged
from kwik.kcp.sighting import SightingKind
from kwik.types import Address, Instance, PathId
from kwik.wire.messages import Drain, Join, Joined, ServerHello
from tests.unit.kcp.rig import SERVICE, Rig, Server, sighting

A, A2 = Address("192.0.2.1", 443), Address("192.0.2.11", 443)
B, C, D = Address("192.0.2.2", 443), Address("192.0.2.3", 443), Address("192.0.2.4", 443)


def closes(rig: Rig) -> list[tuple[int, str]]:
    return [(action.code, action.reason) for action in rig.of(ClosePath) if isinstance(action, ClosePath)]


def test_a_cold_dial_to_one_server_takes_one_round_trip():
    rig = Rig(Server("a", (A,)))
    assert rig.of(object) == []  # sightings alone open nothing
    rig.want(1)
    rig.run(1)
    assert rig.opened() == [A]
    assert rig.times(PathAdmitted) == [0.02]
    (path,) = rig.control.admitted_paths()
    assert rig.control.is_admitted(path)
    assert rig.control.instance_of(path) == Instance("a", bytes(16))
    assert rig.control.address_of(path) == A
    hello = rig.control.hello_of(path)
    assert hello is not None
    assert hello.service == SERVICE
    assert rig.control.state_of(path)[0] is PathState.ACTIVE
    assert rig.control.paths() == [path]
    assert rig.control.knows_any_instance()
    assert rig.control.has_candidates()


def test_nothing_is_known_of_a_path_that_never_was():
    control = Rig().control
    assert not control.is_admitted(PathId(7))
    assert control.instance_of(PathId(7)) is None
    assert control.hello_of(PathId(7)) is None
    assert control.address_of(PathId(7)) is None
    assert control.state_of(PathId(7))[0] is PathState.CLOSED
    assert not control.has_candidates()
    control.on_path_use(PathId(7), True, 1000.0)
    control.on_pong(PathId(7), 1, 1000.0)
    control.on_path_writable(PathId(7), b"", 1000.0)
    control.on_message(PathId(7), None, 1000.0)
    control.on_path_down(PathId(7), "", 1000.0)
    control.on_recover(Instance("a", bytes(16)), 1000.0)
    control.on_recovered(Instance("a", bytes(16)), 1000.0)
    assert control.actions() == []


def test_attempts_are_staggered_until_one_is_admitted():
    holes = [Server("x", (B,), answers=False), Server("y", (C,), answers=False)]
    rig = Rig(*holes)
    rig.want(1)
    rig.run(0.6)
    assert rig.times(OpenPath) == [0.0, 0.25]
    rig.add(Server("a", (A,)))
    rig.run(0.2)
    assert rig.admitted() == ["a"]
    rig.run(11)  # the stragglers fail in the end, and nothing new is begun for them
    assert len(rig.opened()) == 3
    assert [gone.instance for gone in rig.gone()] == [None, None]


def test_a_refusal_gives_the_turn_to_the_next_at_once():
    rig = Rig(*(Server(name, (at,), refuses=True) for name, at in (("x", B), ("y", C), ("z", D))))
    rig.want(1)
    rig.run(0.1)
    assert len(rig.opened()) == 3
    assert rig.times(PathGone) == [0.02, 0.04, 0.06]


def test_when_all_have_failed_the_text_says_who_and_why_and_back_off_goes_on():
    rig = Rig(Server("x", (B,), refuses=True))
    rig.want(1)
    rig.run(0.1)
    (report,) = rig.of(NoCandidates)
    assert isinstance(report, NoCandidates)
    assert SERVICE in report.detail
    assert "192.0.2.2:443: refused" in report.detail
    rig.run(60)
    starts = rig.times(OpenPath)
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert 0.25 <= gaps[0] <= 0.55
    assert max(gaps) <= 30.1
    assert 5 <= len(starts) <= 11
    assert len(rig.of(NoCandidates)) == len(starts)


def test_without_any_address_the_report_comes_once():
    rig = Rig()
    rig.want(1)
    rig.want(2)
    assert [action.detail for action in rig.of(NoCandidates) if isinstance(action, NoCandidates)] == [
        f"no address of {SERVICE} is known"
    ]
    rig.want(0)
    rig.want(1)
    assert len(rig.of(NoCandidates)) == 2


def test_a_fresh_sighting_shortens_the_back_off_once_a_second():
    rig = Rig(Server("x", (B,), refuses=True))
    rig.want(1)
    rig.run(0.03)
    for _ in range(10):
        rig.do(lambda now: rig.control.on_sighting(sighting("x", B), now))
        rig.run(0.03)
    assert len(rig.opened()) == 2


def test_warm_sessions_connect_to_as_many_as_are_wanted_and_no_more():
    rig = Rig(*(Server(name, (at,)) for name, at in (("a", A), ("b", B), ("c", C), ("d", D))))
    rig.want(1)
    rig.run(1)
    rig.want(3)
    rig.run(1)
    assert len(set(rig.connected())) == 3
    assert len(rig.opened()) == 3


def test_max_paths_bounds_what_is_wanted():
    rig = Rig(*(Server(name, (at,)) for name, at in (("a", A), ("b", B), ("c", C))), config=Config(max_paths=2))
    rig.want(9)
    rig.run(5)
    assert len(rig.connected()) == 2


def test_a_racer_that_comes_late_is_kept_only_if_it_is_wanted():
    def race(wanted: int) -> Rig:
        rig = Rig(Server("a", (A,), rtt_s=0.4), Server("b", (B,), rtt_s=0.4))
        rig.want(1)
        rig.run(0.3)
        rig.want(wanted)
        rig.run(0.6)
        return rig

    late = race(1)
    assert len(late.connected()) == 1
    assert closes(late) == [(ErrorCode.NO_ERROR, "not needed now")]
    assert len(race(2).connected()) == 2


def test_a_second_address_of_the_same_server_is_declined_while_distinct_ones_are_left():
    rig = Rig(Server("a", (A, A2)), Server("b", (B,), rtt_s=0.1), Server("c", (C,), answers=False))
    rig.want(3)
    rig.run(2)
    assert sorted(set(rig.connected())) == ["a", "b"]
    assert rig.connected().count("a") == 1 or not rig.of(ClosePath)


def test_a_second_address_is_kept_as_a_spare_when_nothing_distinct_is_left():
    rig = Rig(Server("a", (A, A2)))
    rig.want(2)
    rig.run(2)
    assert rig.connected() == ["a", "a"]
    second = rig.of(PathAdmitted)[1]
    assert isinstance(second, PathAdmitted)
    assert second.joined
    # A distinct server takes its place; the spare goes when nothing runs on it for ten seconds.
    for path in rig.control.admitted_paths():
        rig.do(lambda now, path=path: rig.control.on_path_use(path, path == 1, now))  # type: ignore[misc]
    rig.add(Server("b", (B,)))
    rig.run(12)
    assert sorted(rig.connected()) == ["a", "b"]


def test_a_duplicate_is_not_tried_again_while_its_server_is_served():
    rig = Rig(Server("a", (A, A2)), Server("b", (B,), rtt_s=0.3))
    rig.want(1)
    rig.run(0.1)
    rig.want(2)
    rig.run(3)
    assert sorted(set(rig.connected())) == ["a", "b"]
    assert rig.opened().count(A2) <= 1


def test_idle_extra_paths_go_after_ten_seconds_and_used_ones_stay():
    rig = Rig(*(Server(name, (at,)) for name, at in (("a", A), ("b", B), ("c", C))))
    rig.want(3)
    rig.run(1)
    used = rig.control.admitted_paths()[2]
    for path in rig.control.admitted_paths():
        rig.do(lambda now, path=path: rig.control.on_path_use(path, path == used, now))  # type: ignore[misc]
    rig.want(1)
    rig.run(9.5)
    assert len(rig.connected()) == 3
    rig.run(5)
    assert rig.control.admitted_paths() == [used]
    rig.want(0)
    rig.run(60)
    assert rig.control.admitted_paths() == [used]  # min_paths


def test_paths_of_which_nothing_is_told_count_as_used():
    rig = Rig(Server("a", (A,)), Server("b", (B,)))
    rig.want(2)
    rig.run(1)
    rig.want(1)
    rig.run(60)
    assert len(rig.connected()) == 2


def test_an_idle_path_is_kept_alive_by_pings():
    rig = Rig(Server("a", (A,)))
    rig.want(1)
    rig.run(30)
    assert rig.connected() == ["a"]
    assert rig.gone() == []
    assert {change.new for change in rig.traced if isinstance(change, PathStateChanged)} == {PathState.ACTIVE}


def test_a_dead_server_is_found_within_3_6_seconds_and_replaced_before():
    a, b = Server("a", (A,)), Server("b", (B,), rtt_s=0.05)
    rig = Rig(a)
    rig.want(1)
    rig.run(5)
    rig.add(b)
    a.answers = False
    died_at = rig.now
    rig.run(3.6)
    (gone,) = [gone for gone in rig.gone() if gone.instance == Instance("a", bytes(16))]
    assert not gone.instance_dead
    assert "fast pings were missed" in gone.reason
    admitted_at = [when for when, action in rig.log if isinstance(action, PathAdmitted)][-1]
    assert rig.connected() == ["b"]
    assert admitted_at - died_at < 2.5
    assert (ErrorCode.SERVER_GONE, gone.reason) in closes(rig)


def test_a_client_that_was_stopped_does_not_blame_its_paths():
    rig = Rig(Server("a", (A,)), Server("b", (B,)))
    rig.want(2)
    for offset in (0.95, 0.03, 0.02, 0.3, 0.7):
        rig.run(offset)
        rig.stop(40)
        rig.run(3)
        assert len(rig.connected()) == 2
        assert rig.gone() == []


def test_who_has_slept_asks_every_path_at_once():
    rig = Rig(Server("a", (A,)), Server("b", (B,)))
    rig.want(2)
    rig.run(1.5)
    before = len(rig.of(PingPath))
    rig.do(lambda now: rig.control.on_timeout(now, slept=True))
    assert len(rig.of(PingPath)) == before + 2
    rig.do(lambda now: rig.control.on_timeout(now, slept=True))
    assert len(rig.of(PingPath)) == before + 2, "once is enough"
    rig.run(3)
    assert rig.gone() == []


def test_a_sighting_that_goes_closes_nothing_but_asks_the_path():
    rig = Rig(Server("a", (A,)))
    rig.want(1)
    rig.run(1.5)
    before = len(rig.log)
    rig.do(lambda now: rig.control.on_sighting(sighting("a", kind=SightingKind.GONE), now))
    assert len(rig.log) == before + 1  # the ping
    rig.run(20)
    assert rig.connected() == ["a"]


def test_recovery_tries_at_once_then_with_back_off_and_ends_with_the_admission():
    a = Server("a", (A,))
    rig = Rig(a)
    rig.want(1)
    rig.run(1)
    a.answers = False
    instance = Instance("a", bytes(16))
    started = rig.now
    rig.do(lambda now: rig.control.on_recover(instance, now))
    rig.run(10)
    attempts = [round(when - started, 3) for when, action in rig.log if isinstance(action, OpenPath)][1:]
    assert attempts[:4] == [0.0, 0.2, 0.6, 1.4]
    a.answers = True
    rig.run(6)
    assert rig.admitted() == ["a", "a"]
    joined = rig.of(PathAdmitted)[1]
    assert isinstance(joined, PathAdmitted)
    assert joined.joined
    assert joined.instance == instance
    assert len(rig.control.paths()) == 1
    count = len(rig.opened())
    rig.run(20)
    assert len(rig.opened()) == count


def test_recovery_goes_round_the_addresses_of_that_server():
    a = Server("a", (A,))
    rig = Rig(a)
    rig.want(1)
    rig.run(1)
    rig.do(lambda now: rig.control.on_sighting(sighting("other", A2, server_id="a"), now))
    moved = Server("a", (A2,))
    moved.sessions = a.sessions
    rig.add(moved, sighted=False)
    a.answers = False
    rig.do(lambda now: rig.control.on_recover(Instance("a", bytes(16)), now))
    rig.run(0.5)
    assert rig.connected() == ["a", "a"]
    assert rig.opened() == [A, A, A2]


def test_recovery_ends_when_the_instance_speaks_again():
    a = Server("a", (A,), answers=True)
    rig = Rig(a)
    rig.want(1)
    rig.run(1)
    a.rtt_s = 5.0
    instance = Instance("a", bytes(16))
    rig.do(lambda now: rig.control.on_recover(instance, now))
    rig.run(0.3)
    assert len(rig.control.paths()) == 3
    rig.do(lambda now: rig.control.on_recovered(instance, now))
    assert len(rig.control.paths()) == 1
    assert [reason for _, reason in closes(rig)] == ["no longer needed"] * 2


def test_recovery_opens_at_most_a_few_paths_to_one_instance():
    rig = Rig(Server("a", (A,)))
    rig.want(1)
    for _ in range(12):
        rig.run(0.5)
        rig.do(lambda now: rig.control.on_recover(Instance("a", bytes(16)), now))
    rig.run(30)
    assert len(rig.control.admitted_paths()) == 4


def test_a_restarted_server_ends_its_silent_past():
    old = Server("a", (A,), incarnation=b"1" * 16)
    rig = Rig(old)
    rig.want(1)
    rig.run(5)
    old.answers = False
    rig.add(Server("a", (A,), incarnation=b"2" * 16), sighted=False)
    past = Instance("a", b"1" * 16)
    rig.do(lambda now: rig.control.on_recover(past, now))
    rig.run(3)
    gone = [gone for gone in rig.gone() if gone.instance == past]
    assert [item.instance_dead for item in gone] == [True]
    assert gone[0].reason == "server a was started anew"
    assert [rig.control.instance_of(path) for path in rig.control.paths()] == [Instance("a", b"2" * 16)]
    rig.do(lambda now: rig.control.on_recover(past, now))  # it is known to be dead
    rig.run(1)
    assert len(rig.control.paths()) == 1


def test_a_restart_is_told_even_when_the_last_path_had_gone_before():
    old = Server("a", (A,), incarnation=b"1" * 16)
    rig = Rig(old)
    rig.want(1)
    rig.run(1)
    (path,) = rig.control.paths()
    old.answers = False
    rig.down(path, "reset")
    rig.add(Server("a", (A,), incarnation=b"2" * 16), sighted=False)
    rig.run(2)
    ends = [(item.path, item.instance_dead) for item in rig.gone() if item.instance == Instance("a", b"1" * 16)]
    assert ends == [(path, False), (path, True)]


def test_an_instance_that_has_forgotten_the_session_is_dead_to_it():
    a = Server("a", (A,))
    rig = Rig(a)
    rig.want(1)
    rig.run(1)
    a.sessions = Server("a", (A,)).sessions  # the same incarnation without its memory
    (path,) = rig.control.paths()
    rig.down(path, "reset")
    rig.run(2)
    assert [item.instance_dead for item in rig.gone() if item.instance is not None] == [False, True]
    last = rig.of(PathAdmitted)[-1]
    assert isinstance(last, PathAdmitted)
    assert not last.joined
    assert rig.connected() == ["a"]


def test_an_instance_without_a_path_beyond_its_linger_time_counts_as_new():
    a = Server("a", (A,))
    rig = Rig(a)
    rig.want(1)
    rig.run(1)
    rig.want(0)
    rig.down(rig.control.paths()[0], "reset")
    rig.run(200)
    rig.want(1)
    rig.run(1)
    assert [action.joined for action in rig.of(PathAdmitted) if isinstance(action, PathAdmitted)] == [False, False]


def test_a_wrong_proof_ends_the_path_and_nothing_else():
    def forge(message: object) -> object:
        return Joined(status=0, proof=bytes(32)) if isinstance(message, Joined) else message

    rig = Rig(Server("a", (A,)))
    rig.want(1)
    rig.run(1)
    rig.servers[A].forge = forge
    rig.do(lambda now: rig.control.on_recover(Instance("a", bytes(16)), now))
    rig.run(0.1)
    assert closes(rig)[0][0] == ErrorCode.ADMISSION
    assert not any(item.instance_dead for item in rig.gone())
    assert rig.connected() == ["a"]


@pytest.mark.parametrize("known_status", [1, 2])
def test_a_refused_join_leaves_the_other_path_in_peace(known_status: int):
    def forge(message: object) -> object:
        return Joined(status=known_status, proof=bytes(32)) if isinstance(message, Joined) else message

    rig = Rig(Server("a", (A,)))
    rig.want(1)
    rig.run(1)
    rig.servers[A].forge = forge
    rig.do(lambda now: rig.control.on_recover(Instance("a", bytes(16)), now))
    rig.run(0.1)
    assert closes(rig)[0][0] == ErrorCode.ADMISSION
    assert rig.connected() == ["a"]


def test_a_server_of_another_service_is_closed_with_that_code_and_left_alone():
    rig = Rig(Server("x", (B,), service="mail.example:25"))
    rig.want(1)
    rig.run(5)
    assert closes(rig) == [(ErrorCode.WRONG_SERVICE, f"server x serves mail.example:25, not {SERVICE}")]
    rig.do(lambda now: rig.control.on_sighting(sighting("x", B), now))
    assert rig.opened() == [B]


def test_other_hellos_wait_for_the_path_that_may_carry_an_open():
    a = Server("a", (A,), says_hello=False)
    rig = Rig(a)
    rig.want(1)
    rig.run(0.1)
    (early,) = rig.control.paths()
    assert rig.control.early_path() == early
    rig.add(Server("b", (B,)))
    rig.run(0.4)
    assert rig.admitted() == []
    (_, waiting) = rig.control.paths()
    rig.drain(waiting, 9000)
    rig.deliver(early, rig.servers[A].sessions.on_path(PathId(99), bytes(32), draining=False))
    rig.run(0.0)
    assert rig.control.admitted_paths() == [early]  # the other is not needed, now that it is known
    assert rig.control.early_path() is None


def test_they_wait_no_longer_than_a_second_and_the_early_path_is_kept():
    a = Server("a", (A,), says_hello=False)
    rig = Rig(a)
    rig.want(1)
    rig.run(0.1)
    rig.add(Server("b", (B,)))
    rig.run(0.4)
    rig.drain(rig.control.paths()[1], 9000)
    rig.run(1)
    assert rig.admitted() == ["b"]
    assert len(rig.of(InstanceDraining)) == 1
    rig.deliver(rig.control.paths()[0], a.sessions.on_path(PathId(99), bytes(32), draining=False))
    rig.run(0.0)
    assert sorted(rig.connected()) == ["a", "b"]


def test_when_the_early_path_dies_the_waiting_hello_is_judged_at_once():
    rig = Rig(Server("a", (A,), says_hello=False))
    rig.want(1)
    rig.run(0.1)
    rig.add(Server("b", (B,)))
    rig.run(0.4)
    rig.down(rig.control.paths()[0], "reset")
    assert rig.connected() == ["b"]


def test_an_early_path_to_an_instance_that_is_known_by_then_cannot_stay():
    a = Server("a", (A, A2), says_hello=False)
    rig = Rig(a)
    rig.want(1)
    rig.run(0.1)
    (early,) = rig.control.paths()
    a.says_hello = True
    rig.run(2)
    assert rig.connected() == ["a"]
    rig.deliver(early, a.sessions.on_path(PathId(99), bytes(32), draining=False))
    rig.run(0.0)
    assert early not in rig.control.paths()


def test_the_next_greeted_path_becomes_the_early_one():
    rig = Rig(Server("a", (A,), says_hello=False), Server("b", (B,), says_hello=False))
    rig.want(1)
    rig.run(0.5)
    first, second = rig.control.paths()
    assert rig.control.early_path() == first
    rig.down(first, "reset")
    assert rig.control.early_path() == second


def test_messages_out_of_order_close_the_path():
    rig = Rig(Server("a", (A,)))
    rig.want(1)
    rig.run(1)
    (path,) = rig.control.paths()
    hello = rig.control.hello_of(path)
    assert isinstance(hello, ServerHello)
    rig.deliver(path, hello)
    rig.run(0.0)
    code, reason = closes(rig)[0]
    assert code == ErrorCode.PROTOCOL
    assert reason.startswith("SERVER_HELLO.type: not allowed on a path that is ")
    for message in (Joined(status=0, proof=bytes(32)), Drain(deadline_ms=1), "rubbish"):
        cold = Rig(Server("a", (A,), says_hello=False))
        cold.want(1)
        cold.run(0.1)
        cold.deliver(cold.control.paths()[0], message)
        cold.run(0.0)
        assert closes(cold)[0][0] == ErrorCode.PROTOCOL


def test_a_draining_server_is_told_once_and_replaced():
    rig = Rig(Server("a", (A,)))
    rig.want(1)
    rig.run(1)
    rig.add(Server("b", (B,)))
    (path,) = rig.control.paths()
    rig.drain(path, 4000)
    rig.drain(path, 3000)
    rig.run(1)
    assert rig.of(InstanceDraining) == [InstanceDraining(Instance("a", bytes(16)), 4.0)]
    assert rig.connected() == ["a", "b"]
    rig.down(path, "left")
    rig.run(1)
    assert rig.connected() == ["b"]


def test_a_server_that_drains_already_is_declined():
    a = Server("a", (A,), draining=True)
    rig = Rig(a)
    rig.want(1)
    rig.run(0.1)
    # The first hello's path may have carried an OPEN, so it is admitted; what it is, is told.
    assert [type(action) for action in rig.of(object)[-2:]] == [PathAdmitted, InstanceDraining]
    rig.add(Server("c", (C,), draining=True))
    rig.run(1)
    assert (ErrorCode.NO_ERROR, "draining") in closes(rig)
    rig.add(Server("b", (B,)))
    rig.run(1)
    assert rig.connected() == ["a", "b"]


def test_closing_the_session_closes_every_path():
    rig = Rig(Server("a", (A,)), Server("b", (B,)), Server("c", (C,), answers=False))
    rig.want(3)
    rig.run(1)
    rig.do(rig.control.on_close)
    assert rig.control.paths() == []
    rig.run(60)
    assert rig.control.paths() == []
    assert len(rig.gone()) == 3


def test_hellos_never_repeat_a_session_name_or_nonce():
    rig = Rig(Server("a", (A,)), Server("b", (B,)), Server("c", (C,)))
    rig.want(3)
    rig.run(1)
    hellos = [action.message for action in rig.of(SendMessage) if isinstance(action, SendMessage)]
    drawn = [value for hello in hellos for value in (hello.session, hello.secret, hello.nonce)]  # type: ignore[attr-defined]
    assert len(set(drawn)) == 9
    assert [hello.path for hello in hellos] == rig.control.paths()  # type: ignore[attr-defined]


def test_a_join_whose_instance_dies_meanwhile_does_no_harm():
    a = Server("a", (A,))
    rig = Rig(a)
    rig.want(1)
    rig.run(1)
    a.rtt_s = 0.2
    rig.do(lambda now: rig.control.on_recover(Instance("a", bytes(16)), now))
    rig.run(0.25)
    assert any(isinstance(item.message, Join) for item in rig.of(SendMessage) if isinstance(item, SendMessage))
    rig.down(PathId(1), "reset")
    rig.run(1)
    assert rig.connected() == ["a"]


def test_a_restart_behind_a_path_that_seems_alive_is_believed_when_the_path_misses_a_ping():
    old = Server("a", (A,), incarnation=b"1" * 16)
    rig = Rig(old)
    rig.want(1)
    rig.run(1.1)
    old.answers = False
    rig.add(Server("a", (A,), incarnation=b"2" * 16), sighted=False)
    past = Instance("a", b"1" * 16)
    rig.do(lambda now: rig.control.on_recover(past, now))
    rig.run(0.03)
    assert len(rig.control.admitted_paths()) == 2  # nothing yet speaks against the old one
    assert not any(item.instance_dead for item in rig.gone())
    rig.run(0.4)
    assert [item.instance_dead for item in rig.gone() if item.instance == past] == [True]
    assert [rig.control.instance_of(path) for path in rig.control.paths()] == [Instance("a", b"2" * 16)]


def test_the_same_server_at_another_address_says_nothing_about_the_first():
    rig = Rig(Server("a", (A,), incarnation=b"1" * 16))
    rig.want(1)
    rig.run(1)
    rig.servers[A].answers = False
    rig.add(Server("a", (A2,), incarnation=b"2" * 16))
    rig.run(10)
    assert not any(item.instance_dead for item in rig.gone())
    assert rig.connected() == ["a"]


def test_whether_more_servers_may_be_found():
    rig = Rig(Server("a", (A,)), Server("x", (B,), refuses=True))
    assert rig.control.may_find_more(rig.now)
    rig.want(2)
    rig.run(0.01)
    assert rig.control.may_find_more(rig.now)
    rig.run(5)
    assert rig.control.may_find_more(rig.now)  # one waits for its back-off
    rig.do(lambda now: rig.control.on_sighting(sighting("x", kind=SightingKind.GONE), now))
    rig.run(5)
    assert not rig.control.may_find_more(rig.now)


def test_a_path_that_dies_after_a_long_life_is_tried_again_at_once():
    rig = Rig(Server("a", (A,)))
    rig.want(1)
    rig.run(20)
    rig.down(rig.control.paths()[0], "reset")
    rig.run(0.05)
    assert rig.connected() == ["a"]
