"""What the scenarios of this folder share: run one, and hold it to every guarantee."""

from kwik.sim.apps import reference
from kwik.sim.client_app import ClientPlan
from kwik.sim.compare import check_race, is_race
from kwik.sim.guarantees import breaches
from kwik.sim.scenario import FaultPlan, Scenario, server
from kwik.sim.watch import Watch
from kwik.sim.world import World

LONG = ClientPlan(answers=(40_000,))
"""20 windows of 2 KiB, nearly; takes about a second from one server of the usual rate."""


def two(**more):
    """Two equal servers, replicated, one long answer."""
    return Scenario(**{"servers": (server(), server()), "streams": (LONG,), **more})


def one(**more):
    """A single server of an anchored service, one long answer."""
    return Scenario(**{"servers": (server(),), "streams": (LONG,), "replicated": False, **more})


def fault(kind, *, value=15_000, **more):
    """A fault that strikes when the application has read 15000 bytes and the victim owes some."""
    return FaultPlan(kind=kind, value=value, **more)


def run(scenario, *, tap=False):
    """Run it, assert every guarantee that applies, and give the outcome."""
    outcome = World(scenario, watch=Watch(tap=tap)).run()
    found = breaches(outcome)
    if outcome.ended and is_race(scenario):
        found += check_race(outcome)[0]
    assert not found, "\n".join(found)
    return outcome


def truth(outcome, number=0):
    """What an honest server says to what the client's application wrote."""
    app, scenario = outcome.world.client.streams[number], outcome.world.scenario
    return reference(scenario.program, scenario.greeting_bytes, None, bytes(app.written), eof=app.wrote_eof).data


def assert_complete(outcome):
    """Every stream was read to its clean end."""
    for number, app in enumerate(outcome.world.client.streams):
        assert (app.seen, app.failure) == ("end", None)
        assert bytes(app.received) == truth(outcome, number)


def assert_hit(outcome, *, anchor, count=1):
    """The faults struck whom they should, while it owed bytes."""
    assert len(outcome.faults) == count
    for record in outcome.faults:
        assert record.owed_bytes > 0
        assert record.was_anchor is anchor


def instances(outcome):
    """Number of application instances per server."""
    return [sum(len(host.instances) for host in place.hosts) for place in outcome.world.places]
