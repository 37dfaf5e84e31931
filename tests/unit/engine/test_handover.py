"""Handing over: who counts as waiting, and that an answer given meanwhile is taken in the same round of the loop."""

import asyncio
import threading

import pytest

from kwik.engine.handover import ACCEPT_PAUSE_S, MIN_ACCEPT_PAUSE_S, RETRY_ACCEPTS, HandOver
from kwik.engine.watch import Watcher
from tests.unit.engine.fakes import EchoPort, bridged_pair


@pytest.fixture
async def watcher():
    made = Watcher(asyncio.get_running_loop())
    yield made
    made.close()


async def test_an_application_that_has_read_everything_counts_as_waiting(watcher):
    port = EchoPort(echo=False)
    bridge, app = bridged_pair(watcher, port)
    with app:
        port.say(b"first")
        assert port.handed_over == [False]
        port.say(b"second, while the first one is unread")
        assert port.handed_over == [False]
        assert app.recv(100)
        app.sendall(b"a question")
        bridge._ready.readable = True
        port.say(b"third")
        assert port.handed_over == [False, True]
        assert app.recv(100)
        port.say(b"fourth")
        assert port.handed_over == [False, True, False]
        bridge.finish()


async def test_only_who_gets_no_answer_makes_way_for_the_loop(watcher):
    handover = HandOver(watcher, loop_fd=1_000)
    asked: list[list[int]] = []

    def pause(descriptors, limit_s):
        asked.append(descriptors)
        return False

    handover._pause = pause  # type: ignore[method-assign]
    handover.note()
    handover.settle()
    handover.note()
    handover.note(is_answer=True)
    handover.settle()
    handover.note()
    handover.settle()
    assert [1_000 in descriptors for descriptors in asked] == [True, False, True]


async def test_an_answer_is_taken_before_the_loop_goes_on(watcher):
    port = EchoPort(echo=False)
    bridge, app = bridged_pair(watcher, port)
    handover = HandOver(watcher)
    reader = threading.Thread(target=lambda: app.sendall(app.recv(100).upper()))
    with app:
        reader.start()
        port.say(b"question")
        handover.settle()
        assert port.received == b"", "nobody was given anything, as far as it knows"
        while port.received != b"QUESTION":
            handover.note()
            handover.settle()
        reader.join()
        bridge.finish()


async def test_many_events_are_one_input(watcher):
    port = EchoPort(echo=False)
    told: list[str] = []
    watcher.after_batch(lambda: told.append("outside a batch: at once"))
    assert len(told) == 1
    pairs = [bridged_pair(watcher, port) for _ in range(3)]
    watcher.poll()
    inputs: list[int] = []
    # One object, as a driver's bound method: what is equal is called once.
    port.on_input = lambda: inputs.append(len(port.received))  # type: ignore[method-assign]
    for _, app in pairs:
        app.sendall(b"x")
    watcher.poll()
    assert inputs == [3]
    for bridge, app in pairs:
        bridge.finish()
        app.close()


async def test_applications_that_do_not_answer_at_once_are_waited_for_less_and_less(watcher):
    handover = HandOver(watcher)
    pauses: list[float] = []

    def silent(descriptors, limit_s):
        pauses.append(limit_s)
        return False

    handover._pause = silent  # type: ignore[method-assign]
    for _ in range(RETRY_ACCEPTS + 1):
        handover.note_accept()
        handover.settle()
    assert pauses[0] == ACCEPT_PAUSE_S
    assert pauses[RETRY_ACCEPTS - 2] == pytest.approx(MIN_ACCEPT_PAUSE_S)
    assert pauses[RETRY_ACCEPTS - 1] == ACCEPT_PAUSE_S, "now and then they may show that they do"
    before = handover._accept_s
    handover._learn(True, ACCEPT_PAUSE_S / 2)
    assert handover._accept_s == ACCEPT_PAUSE_S > before
