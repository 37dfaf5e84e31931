"""The client endpoint against real server cores: dialling, streams, recovery, closing, pictures."""

from __future__ import annotations

import pytest

from kwik.config import Config
from kwik.core.actions import (
    ClosePath,
    Flushed,
    OpenPath,
    PingPath,
    PortDone,
    PortReadable,
    PortReset,
    SessionIdle,
    StreamConfirmed,
    StreamSent,
)
from kwik.errors import ErrorCode, KwikError
from kwik.types import PathId
from kwik.wire.codec import encode
from kwik.wire.frames import Ack, Produced
from tests.unit.core.house import BLOCK, House
from tests.unit.kdp.naive import pattern

TEXT = pattern(300 * BLOCK)


@pytest.fixture
def house() -> House:
    return House()


class TestStream:
    def test_a_request_and_its_answer(self, house: House):
        server = house.server("a", TEXT[:1000])
        key = house.dial()
        house.run(1.0)
        assert house.heard(StreamSent) == [StreamSent(key)]
        assert house.heard(StreamConfirmed) == [StreamConfirmed(key)]
        house.write(key, b"GET")
        assert house.read(key) == TEXT[:1000]
        assert house.client.at_end(key)
        assert not house.client.at_end(key)
        house.client.on_app_eof(key, house.now)
        house.run(1.0)
        (app,) = server.apps
        assert (app.read, app.saw_end) == (b"GET", True)
        assert house.heard(PortDone) == [PortDone(key)]
        assert app.ended == PortDone(app.key)

    def test_its_application_is_served_before_decisions_are_made(self, house: House):
        """What may be read is told before actions(), once; a second question finds nothing new."""
        server = house.server("a", TEXT[:1000], ends=False)
        key = house.dial()
        house.run(1.0)
        assert house.read(key) == TEXT[:1000]
        (app,) = server.apps
        (link,) = house.links.values()
        server.core.on_app_bytes(app.key, b"more", house.now)
        for pipe, data in server.core.on_room(link.number, 1 << 16, house.now):
            house.client.on_path_data(link.path, pipe, data, house.now)
        assert house.client.readable() == [key]
        assert house.client.readable() == []
        assert PortReadable(key) not in house.client.actions()
        assert house.read(key) == b"more"

    def test_it_is_over_when_its_last_frame_has_left(self, house: House):
        """Nothing answers a FIN without bytes: whoever waits for another input keeps the stream, and its memory."""
        house.server("a", TEXT[:1000])
        key = house.dial()
        house.write(key, b"GET")
        house.run(1.0)
        assert house.read(key) == TEXT[:1000]
        assert house.client.at_end(key)
        house.settle()
        house.client.on_app_eof(key, house.now)
        house.client.actions()
        (path,) = house.links
        assert house.client.on_room(path, 1 << 16, house.now)
        assert PortDone(key) in house.client.actions()

    def test_many_windows_and_a_slow_reader(self, house: House):
        house.server("a", TEXT)
        key = house.dial()
        read = b""
        while len(read) < len(TEXT):
            house.run(0.01)
            piece = house.read(key, 500)
            assert piece
            read += piece
            assert house.client.held_bytes <= 65 * BLOCK
        assert read == TEXT
        assert house.client.at_end(key)

    def test_little_room_at_a_time(self, house: House):
        house.room = 150
        server = house.server("a", TEXT[: 20 * BLOCK])
        key = house.dial()
        house.run(1.0)
        house.write(key, pattern(500, salt=3))
        house.run(1.0)
        assert house.read(key) == TEXT[: 20 * BLOCK]
        assert server.apps[0].read == pattern(500, salt=3)

    def test_several_streams_share_the_session(self, house: House):
        server = house.server("a", TEXT[:500])
        keys = [house.dial() for _ in range(5)]
        house.run(1.0)
        assert [house.read(key) for key in keys] == [TEXT[:500]] * 5
        assert len(house.heard(OpenPath)) == 1
        assert len(server.apps) == 5

    def test_unknown_keys_are_ignored(self, house: House):
        house.server("a")
        house.client.on_app_bytes(99, b"x", house.now)
        house.client.on_app_eof(99, house.now)
        house.client.on_app_closed(99, house.now, aborted=True)
        house.client.consume(99, 1, house.now)
        house.client.flush(99, 1, 1, house.now)
        assert house.client.peek(99) is None
        assert house.client.allowance(99) == 0
        assert not house.client.at_end(99)
        assert house.client.stream_stats(99, house.now) is None

    def test_flush_is_answered_when_the_application_has_taken_all(self, house: House):
        house.server("a")
        key = house.dial()
        house.run(1.0)
        house.client.on_app_bytes(key, b"x" * 10, house.now)
        house.client.flush(key, 1, 77, house.now)
        house.run(0.1)
        assert house.heard(Flushed) == [Flushed(77)]

    def test_an_abort_resets_the_servers_application(self, house: House):
        server = house.server("a", TEXT)
        key = house.dial()
        house.run(1.0)
        house.client.on_app_closed(key, house.now, aborted=True)
        house.run(0.1)
        assert house.heard(PortDone) == [PortDone(key)]
        assert isinstance(server.apps[0].ended, PortReset)


class TestDial:
    def test_without_memory_it_fails_at_once(self):
        house = House(memory_bytes=128, receive_window_bytes=128)
        house.server("a")
        house.dial()
        with pytest.raises(KwikError, match="memory"):
            house.dial()

    def test_without_any_server_it_fails_when_discovery_is_done_and_says_who_was_asked(self, house: House):
        key = house.dial()
        house.run(2.0)
        assert house.reset(key) is None
        house.client.on_discovery_done("mdns: nobody answered", house.now)
        house.run(0.1)
        failure = house.reset(key)
        assert failure is not None
        assert failure.refused
        assert "mdns: nobody answered" in failure.text

    def test_servers_that_cannot_be_reached_count_as_none(self, house: House):
        server = house.server("a")
        server.is_up = False
        key = house.dial()
        house.client.on_discovery_done("static: one address", house.now)
        house.run(60.0)
        failure = house.reset(key)
        assert failure is not None
        assert failure.refused

    def test_a_server_that_refuses_is_passed_over(self, house: House):
        first = house.server("a", b"a's")
        first.refuses = (ErrorCode.APPLICATION_DOWN, "no such port")
        key = house.dial()
        house.run(1.0)
        house.server("b", b"b's")
        house.run(1.0)
        assert house.read(key) == b"b's"

    def test_if_all_refuse_the_dial_is_refused(self, house: House):
        server = house.server("a")
        server.refuses = (ErrorCode.APPLICATION_DOWN, "no such port")
        key = house.dial()
        house.run(0.1)
        house.client.on_discovery_done("static: one address", house.now)
        house.run(30.0)
        failure = house.reset(key)
        assert failure is not None
        assert (failure.code, failure.refused) == (ErrorCode.APPLICATION_DOWN, True)
        assert "no such port" in failure.text

    @pytest.mark.parametrize("other", ["stranger", "clone", "unreachable"])
    def test_a_refused_dial_ends_in_time_whoever_else_is_tried_again_and_again(self, house: House, other: str):
        server = house.server("a")
        server.refuses = (ErrorCode.APPLICATION_DOWN, "no such port")
        if other == "clone":
            house.server("a-clone", server_id="a", incarnation=server.incarnation)
        elif other == "stranger":
            house.server("x", service="other.example:80")
        else:
            house.server("y").is_up = False
        key = house.dial()
        house.client.on_discovery_done("static: two addresses", house.now)
        limit_s = 2 * Config().discovery_time_s
        house.run(limit_s - 0.1)
        assert house.reset(key) is None
        house.run(1.0)
        failure = house.reset(key)
        assert failure is not None
        assert (failure.code, failure.refused) == (ErrorCode.APPLICATION_DOWN, True)

    def test_a_refusal_is_forgotten_when_another_takes_the_stream(self, house: House):
        servers = [house.server(name, b"here", ends=False) for name in "ab"]
        servers[0].refuses = (ErrorCode.APPLICATION_DOWN, "no such port")
        house.server("x", service="other.example:80")
        key = house.dial()
        house.client.on_discovery_done("static: three addresses", house.now)
        house.run(1.0)
        assert [len(server.apps) for server in servers] == [0, 1]
        house.run(3 * Config().discovery_time_s)
        assert house.reset(key) is None
        assert house.read(key) == b"here"

    def test_a_server_found_late_has_its_turn_after_a_refusal(self, house: House):
        """Seed 0xc11 (brisk): servers that turned up at the end of the discovery time were not waited for."""
        refusing = house.server("a")
        refusing.refuses = (ErrorCode.APPLICATION_DOWN, "no such port")
        slow = house.server("b", b"here")
        slow.is_up = False
        key = house.dial()
        house.client.on_discovery_done("static: two addresses", house.now)
        house.run(Config().discovery_time_s + 0.1)
        slow.is_up = True
        house.run(Config().discovery_time_s - 0.2)
        assert house.reset(key) is None
        assert house.read(key) == b"here"

    def test_discovery_may_end_in_the_very_turn_of_the_dial(self, house: House):
        house.server("a", b"here")
        key = house.dial()
        house.client.on_discovery_done("static: one address", house.now)
        house.run(1.0)
        assert house.reset(key) is None
        assert house.read(key) == b"here"

    def test_a_server_of_another_service_gets_nothing(self, house: House):
        server = house.server("a", service="other.example:80")
        house.dial()
        house.run(1.0)
        assert server.apps == []
        assert [action.code for action in house.heard(ClosePath)][:1] == [ErrorCode.WRONG_SERVICE]


class TestSeveralServers:
    def test_a_standby_takes_over_from_a_dead_anchor(self, house: House):
        servers = [house.server(name, TEXT) for name in "ab"]
        key = house.dial(replicas=2)
        house.run(1.0)
        assert [len(server.apps) for server in servers] == [1, 1]
        read = house.read(key, 1000)
        house.kill(servers[0])
        house.run(1.0)
        read += house.read(key)
        for _ in range(20):
            house.run(0.1)
            read += house.read(key)
        assert read == TEXT
        stats = house.client.stream_stats(key, house.now)
        assert stats is not None
        assert (stats.anchor, stats.takeovers, stats.epoch) == ("b", 1, 2)

    def test_a_silent_anchor_is_left_too(self, house: House):
        servers = [house.server(name, TEXT) for name in "ab"]
        key = house.dial(replicas=2)
        house.run(1.0)
        read = house.read(key, 1000)
        house.cut(servers[0])
        for _ in range(40):
            house.run(0.1)
            read += house.read(key)
        assert read == TEXT
        assert house.client.at_end(key)

    def test_another_answer_is_never_spliced_in(self, house: House):
        first = house.server("a", TEXT)
        second = house.server("b", pattern(300 * BLOCK, salt=1))
        key = house.dial(replicas=2)
        read = b""
        for _ in range(60):
            house.run(0.02)
            read += house.read(key, 400)
        house.kill(first)
        house.run(1.0)
        read += house.read(key)
        house.run(61.0)
        read += house.read(key)
        assert read == TEXT[: len(read)]
        assert second.apps

    def test_without_a_standby_one_is_recruited_by_replay(self, house: House):
        first = house.server("a", TEXT)
        key = house.dial()
        house.run(1.0)
        house.write(key, b"GET")
        read = house.read(key, 700)
        house.kill(first)
        second = house.server("b", TEXT)
        for _ in range(30):
            house.run(0.1)
            read += house.read(key)
        assert read == TEXT
        assert second.apps[0].read == b"GET"

    def test_an_anchored_stream_never_runs_twice(self, house: House):
        first = house.server("a", TEXT, replicated=False)
        second = house.server("b", TEXT, replicated=False)
        key = house.dial()
        house.run(1.0)
        house.kill(first if first.apps else second)
        house.run(61.0)
        assert len(first.apps) + len(second.apps) == 1
        failure = house.reset(key)
        assert failure is not None
        assert not failure.refused


class TestPathDeath:
    def test_a_new_path_to_the_same_server_carries_the_stream_on(self, house: House):
        server = house.server("a", TEXT, replicated=False)
        key = house.dial()
        house.run(1.0)
        read = house.read(key, 1000)
        house.drop(PathId(1))
        for _ in range(30):
            house.run(0.2)
            read += house.read(key)
        assert read == TEXT
        assert len(server.apps) == 1
        assert len(house.heard(OpenPath)) >= 2

    def test_a_server_that_started_anew_does_not_know_the_stream(self, house: House):
        server = house.server("a", TEXT, replicated=False)
        key = house.dial()
        house.run(1.0)
        house.read(key, 1000)
        house.kill(server)
        house.build("a", TEXT, replicated=False)
        house.run(61.0)
        failure = house.reset(key)
        assert failure is not None
        assert failure.code == ErrorCode.SERVER_GONE

    @pytest.mark.parametrize(
        ("pipe", "data", "code"),
        [
            (0, b"\x3f\x00", ErrorCode.UNKNOWN_FRAME),
            (0, encode(Ack(1, 2, 3)), ErrorCode.FRAME_FORMAT),
            (0, encode(Produced(77, 3)), ErrorCode.PROTOCOL),
            (1, b"\x40\x40\x04\x01\x09\x05x", ErrorCode.UNAUTHORISED_DATA),
        ],
    )
    def test_a_server_that_breaks_the_rules_loses_its_path(self, house: House, pipe: int, data: bytes, code: int):
        house.server("a", TEXT[:64], ends=False)
        house.dial()
        house.run(1.0)
        (path,) = house.links
        house.client.on_path_data(path, pipe, data, house.now)
        house.client.on_path_data(path, pipe, data, house.now)
        house.settle()
        assert [(action.path, action.code) for action in house.heard(ClosePath)] == [(path, code)]

    def test_bytes_of_an_unknown_path_are_ignored(self, house: House):
        house.client.on_path_data(PathId(9), 0, b"junk", house.now)
        house.client.on_path_down(PathId(9), "never was", house.now)
        assert house.client.on_room(PathId(9), 100, house.now) == []
        assert not house.client.wants_room(PathId(9))


class TestSession:
    def test_an_idle_session_is_given_up(self):
        house = House(session_idle_s=5.0)
        house.server("a", b"x")
        key = house.dial()
        house.run(1.0)
        house.read(key)
        house.client.on_app_closed(key, house.now, aborted=False)
        house.run(4.0)
        assert house.heard(SessionIdle) == []
        house.run(2.0)
        assert house.heard(SessionIdle) == [SessionIdle()]
        assert house.links == {}

    def test_a_dial_in_time_keeps_it(self):
        house = House(session_idle_s=5.0)
        house.server("a", b"x")
        house.client.on_app_closed(house.dial(), house.now, aborted=True)
        house.run(4.0)
        key = house.dial()
        house.run(4.0)
        assert house.heard(SessionIdle) == []
        assert house.read(key) == b"x"

    def test_closing_resets_every_stream_and_path(self, house: House):
        house.server("a", TEXT)
        keys = [house.dial(), house.dial()]
        house.run(1.0)
        house.client.close(house.now)
        house.run(0.1)
        assert all(house.reset(key) is not None for key in keys)
        assert house.links == {}
        house.run(60.0)
        assert house.heard(SessionIdle) == []

    def test_a_new_allowance_counts_for_later_dials(self, house: House):
        house.server("a")
        house.client.on_allowance(100, house.now)
        with pytest.raises(KwikError, match="memory"):
            house.dial()
        house.client.on_allowance(1 << 20, house.now)
        house.dial()


class TestPictures:
    def test_paths_and_streams(self, house: House):
        house.server("a", TEXT)
        key = house.dial()
        house.run(1.0)
        house.read(key, 1000)
        (path,) = house.client.path_views(house.now)
        assert (path.server_id, path.state, path.silent) == ("a", "active", False)
        assert path.address == "192.0.2.1:4433"
        assert path.received_bytes >= 1000
        stats = house.client.stream_stats(key, house.now)
        assert stats is not None
        assert (stats.delivered_bytes, stats.state, stats.recruitable) == (1000, "live", True)
        assert [(share.server_id, share.role, share.delivered_bytes) for share in stats.shares] == [
            ("a", "anchor", 1000)
        ]

    def test_a_path_that_is_not_open_yet(self, house: House):
        house.server("a")
        house.dial()
        house.client.actions()
        (path,) = house.client.path_views(house.now)
        assert (path.server_id, path.received_bytes, path.smoothed_rtt_s) == ("", 0, None)
        assert path.rate_bytes_s is None


class TestSleep:
    """The process, or its machine, did not run: whatever input comes first shows it."""

    def _asleep(self, house: House) -> int:
        house.server("a", TEXT[:1000], ends=False)
        key = house.dial()
        house.run(1.5)
        due = house.client.deadline()
        assert due is not None
        house.now = due + 20.0
        return key

    @pytest.mark.parametrize("how", ["timer", "application", "path"])
    def test_its_paths_are_asked_at_once_and_once(self, house: House, how: str):
        key = self._asleep(house)
        for again in (False, True):
            match how:
                case "timer":
                    house.client.on_timeout(house.now)
                case "application":
                    house.client.on_app_bytes(key, b"x", house.now)
                case "path":
                    house.client.on_pong(next(iter(house.links)), 0, house.now)
            house.client.deadline()
            pings = [action for action in house.client.actions() if isinstance(action, PingPath)]
            assert len(pings) == (0 if again else 1)

    def test_it_is_taken_off_once(self, house: House):
        key = self._asleep(house)
        stream = house.client._data.streams[key]
        stream.recovering_since = since = house.now - 21.0
        for _ in range(3):
            # What was due before stays due until a timer looks.
            stream.next_due = house.client._data._clock.seen + 0.001
            house.client.deadline()
            house.client.on_app_bytes(key, b"x", house.now)
            house.client.deadline()
        assert stream.recovering_since is not None
        assert since + 19.0 < stream.recovering_since <= since + 21.0
