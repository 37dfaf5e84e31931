"""Nothing from a stranger: no byte of a stream before the right server is known, no path unproved (SPEC §2)."""

from kwik.sim.scenario import server
from kwik.wire import codec, frames, messages
from tests.sim.runs import assert_complete, fault, instances, one, run, two


def frames_at(outcome, host):
    """What arrived there, by path."""
    seen: dict[int, list[codec.Received]] = {}
    for item in outcome.world.watch.frames:
        if item.host == host:
            seen.setdefault(item.path, []).append(item.frame)
    return seen


def test_a_server_of_another_service_runs_nothing():
    outcome = run(two(servers=(server(service="other.example:80"), server(sighted_s=0.1))))
    assert instances(outcome) == [0, 1]
    assert_complete(outcome)


def test_only_a_server_of_another_service():
    outcome = run(two(servers=(server(service="other.example:80"),)), tap=True)
    assert instances(outcome) == [0]
    assert outcome.world.client.streams[0].seen in ("refused", "reset")


def test_the_first_words_on_each_path_are_hellos():
    outcome = run(two(), tap=True)
    for name in ("s0", "s1"):
        for said in frames_at(outcome, name).values():
            assert isinstance(said[0], messages.ClientHello)
    for said in frames_at(outcome, "client").values():
        assert isinstance(said[0], messages.ServerHello)


def test_a_clone_cannot_join_and_gets_nothing():
    """It shows id and incarnation of the first server and does not know the session's secret."""
    servers = (server(), server(clone_of=0, sighted_s=0.1), server(sighted_s=0.1))
    outcome = run(two(servers=servers), tap=True)
    assert_complete(outcome)
    for said in frames_at(outcome, "s1").values():
        if any(isinstance(frame, messages.Join) for frame in said):
            allowed = (messages.ClientHello, messages.Join)
            assert all(isinstance(frame, allowed) for frame in said), said


def test_two_sessions_names_are_never_the_same():
    outcome = run(two(), tap=True)
    hellos = [item.frame for item in outcome.world.watch.frames if isinstance(item.frame, messages.ClientHello)]
    assert len({hello.session for hello in hellos}) == len({hello.secret for hello in hellos}) == len(hellos) > 1


def test_a_new_path_proves_itself_before_it_attaches():
    outcome = run(one(faults=(fault("path-break"),)), tap=True)
    assert_complete(outcome)
    later = [said for path, said in frames_at(outcome, "s0").items() if path > 0]
    assert later
    for said in later:
        if len(said) > 1:
            assert isinstance(said[1], messages.Join)
    attached = [said for said in later if any(isinstance(frame, frames.Attach) for frame in said)]
    assert attached
    assert not any(isinstance(frame, codec.UpstreamPiece) for said in attached for frame in said[:2])
