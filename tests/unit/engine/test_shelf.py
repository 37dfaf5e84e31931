"""Pairs made ahead: one waits at most, whoever takes gets a pair in any case, nothing stays behind."""

import socket

import pytest

from kwik.engine.shelf import Shelf


@pytest.fixture
def shelf():
    made = Shelf(lambda application: application)
    yield made
    made.close()


def test_one_pair_waits_at_most(shelf: Shelf[socket.socket]):
    assert shelf.descriptors() == []
    shelf.refill()
    waiting = shelf.descriptors()
    shelf.refill()
    assert shelf.descriptors() == waiting
    assert len(waiting) == 2


def test_what_is_taken_is_gone_and_what_is_missing_is_made(shelf: Shelf[socket.socket]):
    shelf.refill()
    ahead = shelf.descriptors()
    pairs = [shelf.take(), shelf.take()]
    assert [pairs[0][0].sock.fileno(), pairs[0][1].fileno()] == ahead
    assert shelf.descriptors() == []
    for end, application in pairs:
        application.sendall(b"x")
        assert end.receive(10) == b"x"
        application.close()
        end.close(reset=False)


def test_a_closed_shelf_stays_empty(shelf: Shelf[socket.socket]):
    shelf.refill()
    _, application = shelf._pairs[0]
    shelf.close()
    assert application.fileno() < 0
    shelf.refill()
    assert shelf.descriptors() == []
