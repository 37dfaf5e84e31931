"""Leaving in good order."""

from __future__ import annotations

from kwik.kcp.drain import MAX_DRAIN_S, Announce, DrainingInstances, DrainOver, ServerDrain
from kwik.types import Instance
from kwik.wire.messages import Drain
from tests.unit.kcp.rig import START


def test_a_drain_ends_when_the_last_replica_does():
    drain = ServerDrain(30.0)
    drain.on_replicas(2, START)
    drain.on_timeout(START)
    assert not drain.is_draining
    assert drain.deadline() is None
    drain.on_drain(START)
    assert drain.actions() == [Announce(Drain(deadline_ms=30000))]
    assert drain.is_draining
    drain.on_drain(START + 10)
    assert drain.message(START + 10) == Drain(deadline_ms=20000)
    drain.on_replicas(1, START + 11)
    assert drain.actions() == []
    drain.on_replicas(0, START + 12)
    assert drain.actions() == [DrainOver("every replica has ended")]
    assert drain.deadline() is None
    drain.on_timeout(START + 30)
    assert drain.actions() == []


def test_a_drain_ends_at_its_deadline_too():
    drain = ServerDrain(30.0)
    drain.on_replicas(3, START)
    drain.on_drain(START)
    drain.actions()
    drain.on_timeout(START + 29)
    assert drain.deadline() == START + 30
    drain.on_timeout(START + 30)
    assert drain.actions() == [DrainOver("3 replicas were still open")]


def test_before_a_drain_there_is_no_time_to_tell():
    assert ServerDrain(30.0).message(START) == Drain(deadline_ms=0)


def test_the_clients_view():
    view = DrainingInstances()
    instance = Instance("a", bytes(16))
    assert view.until(instance) is None
    assert view.on_drain(instance, 1e9, START)
    assert not view.on_drain(instance, 5.0, START)
    assert view.until(instance) == START + 5.0
    assert instance in view
    view.on_drain(instance, 1e9, START)
    assert view.until(instance) == START + MAX_DRAIN_S
    view.forget(instance)
    view.forget(instance)
    assert instance not in view
