"""The server's sessions: bounds, linger, and what a hello may not say."""

from __future__ import annotations

import dataclasses
import random

from kwik.config import ServerConfig
from kwik.errors import ErrorCode
from kwik.kcp.admission import ClientAdmission, Refuse, client_proof
from kwik.kcp.sessions import MAX_PATHS, ServerSessions, SessionForgotten
from kwik.types import PathId
from kwik.wire.messages import ClientHello, Join, Joined, ServerHello
from tests.unit.kcp.rig import SERVICE, START

BINDING = bytes(32)


class Desk:
    def __init__(self, **settings: int) -> None:
        config = ServerConfig(service=SERVICE, server_id="a", replicated=True, **settings)
        self.sessions = ServerSessions(config, incarnation=bytes(16), token_bytes=random.Random(2).randbytes)
        self.client = ClientAdmission(SERVICE, random.Random(1).randbytes)
        self.hellos: dict[int, tuple[ClientHello, ServerHello]] = {}

    def come(self, number: int, now: float = START) -> bytes | Refuse:
        path = PathId(number)
        answer = self.sessions.on_path(path, BINDING, draining=False)
        assert isinstance(answer, ServerHello)
        hello = self.client.compose(path, BINDING)
        self.hellos[number] = (hello, answer)
        return self.sessions.on_client_hello(path, hello, now)

    def join(self, number: int, to: int, now: float = START) -> Joined | Refuse:
        target = self.hellos[to][0]
        mine, theirs = self.hellos[number]
        proof = client_proof(target.secret, mine.nonce, theirs.nonce, BINDING)
        return self.sessions.on_join(PathId(number), Join(session=target.session, proof=proof), now)


def code(verdict: object) -> ErrorCode:
    assert isinstance(verdict, Refuse)
    return verdict.code


def test_the_hello_says_what_the_server_is():
    desk = Desk(linger_s=5)
    hello = desk.sessions.on_path(PathId(1), BINDING, draining=True)
    assert isinstance(hello, ServerHello)
    assert (hello.server_id, hello.service, hello.replicated, hello.draining) == ("a", SERVICE, True, True)
    assert (hello.linger_ms, hello.upstream_credit) == (5000, 65536)


def test_a_hello_opens_a_session_and_is_said_once():
    desk = Desk()
    name = desk.come(1)
    assert desk.sessions.session_of(PathId(1)) == name == desk.hellos[1][0].session
    assert code(desk.sessions.on_client_hello(PathId(1), desk.hellos[1][0], START)) is ErrorCode.PROTOCOL
    assert code(desk.sessions.on_client_hello(PathId(9), desk.hellos[1][0], START)) is ErrorCode.PROTOCOL
    assert len(desk.sessions) == 1


def test_a_session_name_that_is_taken_is_an_admission_error():
    desk = Desk()
    desk.come(1)
    desk.sessions.on_path(PathId(2), BINDING, draining=False)
    assert code(desk.sessions.on_client_hello(PathId(2), desk.hellos[1][0], START)) is ErrorCode.ADMISSION


def test_another_version_or_service_is_refused():
    desk = Desk()
    desk.sessions.on_path(PathId(1), BINDING, draining=False)
    hello = desk.client.compose(PathId(1), BINDING)
    other = dataclasses.replace(hello, version=2)
    assert code(desk.sessions.on_client_hello(PathId(1), other, START)) is ErrorCode.WRONG_VERSION
    other = dataclasses.replace(hello, service="mail.example:25")
    assert code(desk.sessions.on_client_hello(PathId(1), other, START)) is ErrorCode.WRONG_SERVICE


def test_a_join_moves_the_path_and_drops_its_own_session():
    desk = Desk()
    name = desk.come(1)
    own = desk.come(2)
    assert isinstance(own, bytes)
    answer = desk.join(2, to=1)
    assert isinstance(answer, Joined)
    assert answer.status == 0
    assert desk.sessions.session_of(PathId(2)) == name
    assert desk.sessions.actions() == [SessionForgotten(own)]
    assert desk.sessions.actions() == []
    assert len(desk.sessions) == 1


def test_a_join_to_an_unknown_session_leaves_the_path_with_none():
    desk = Desk()
    desk.come(1)
    answer = desk.sessions.on_join(PathId(1), Join(session=b"?" * 16, proof=bytes(32)), START)
    assert answer == Joined(status=1, proof=bytes(32))
    assert desk.sessions.session_of(PathId(1)) is None
    desk.sessions.on_path_down(PathId(1), START)


def test_a_path_that_is_in_use_on_its_own_cannot_join():
    desk = Desk()
    desk.come(1)
    own = desk.come(2)
    assert isinstance(own, bytes)
    desk.sessions.on_replicas(own, 1, START)
    assert code(desk.join(2, to=1)) is ErrorCode.PROTOCOL
    assert code(desk.join(1, to=1)) is ErrorCode.PROTOCOL
    assert code(desk.sessions.on_join(PathId(9), Join(session=own, proof=bytes(32)), START)) is ErrorCode.PROTOCOL


def test_a_session_into_which_others_joined_outlives_the_leaving_of_its_founder():
    desk = Desk()
    name = desk.come(1)
    assert isinstance(name, bytes)
    desk.come(2)
    desk.join(2, to=1)
    desk.come(3)
    desk.join(1, to=3)
    assert desk.sessions.paths_of(name) == (PathId(2),)


def test_a_session_has_at_most_64_paths():
    desk = Desk()
    desk.come(1)
    for number in range(2, MAX_PATHS + 1):
        desk.come(number)
        assert isinstance(desk.join(number, to=1), Joined)
    desk.come(MAX_PATHS + 1)
    assert code(desk.join(MAX_PATHS + 1, to=1)) is ErrorCode.LIMIT


def test_a_session_lingers_after_the_last_path_and_replica():
    desk = Desk(linger_s=10)
    name = desk.come(1)
    assert isinstance(name, bytes)
    desk.sessions.on_replicas(name, 2, START)
    desk.sessions.on_path_down(PathId(1), START)
    desk.sessions.on_path_down(PathId(1), START)
    assert desk.sessions.deadline() is None
    desk.sessions.on_replicas(name, 0, START + 100)
    desk.sessions.on_replicas(name, 0, START + 105)
    desk.sessions.on_replicas(b"nobody", 0, START + 105)
    assert desk.sessions.deadline() == START + 110
    desk.come(2, START + 109)
    desk.join(2, to=1, now=START + 109)
    desk.sessions.on_timeout(START + 110)
    assert desk.sessions.paths_of(name) == (PathId(2),)
    desk.sessions.on_path_down(PathId(2), START + 110)
    desk.sessions.on_timeout(START + 120)
    assert desk.sessions.paths_of(name) == ()
    assert SessionForgotten(name) in desk.sessions.actions()


def test_the_longest_lingering_session_makes_room_and_a_used_one_does_not():
    desk = Desk(max_sessions=2)
    first, second = desk.come(1), desk.come(2)
    assert isinstance(first, bytes)
    assert isinstance(second, bytes)
    assert code(desk.come(3)) is ErrorCode.OVERLOADED
    desk.sessions.on_path_down(PathId(2), START)
    desk.sessions.on_path_down(PathId(1), START + 1)
    assert isinstance(desk.come(4), bytes)
    assert desk.sessions.actions() == [SessionForgotten(second)]


def test_paths_are_bounded_too():
    desk = Desk(max_sessions=1)
    for number in range(MAX_PATHS):
        desk.sessions.on_path(PathId(number), BINDING, draining=False)
    assert code(desk.sessions.on_path(PathId(999), BINDING, draining=False)) is ErrorCode.OVERLOADED
