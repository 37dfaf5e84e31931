"""A candidacy: probes, answers for exactly one offset, and who may take over at all (SPEC §6.4)."""

from __future__ import annotations

import pytest

from kwik.kdp.digest import Pair
from kwik.kdp.path import ClientPath
from kwik.kdp.replica_view import ReplicaView, ViewState
from kwik.kdp.takeover import MAX_OPEN_PROBES, Pace, Takeover, Trouble, best_candidate
from kwik.types import PathId

NOW = 1000.0
PAIR = Pair(b"c" * 32, b"p" * 32)


def view_of(number: int, *, state: ViewState = ViewState.LIVE, paths: int = 1) -> ReplicaView:
    view = ReplicaView(number, 1, None, PathId(number), 0)
    view.state = state
    for index in range(paths):
        path = PathId(10 * number + index)
        view.paths[path] = ClientPath(path)
    return view


@pytest.fixture
def candidate() -> ReplicaView:
    return view_of(2)


@pytest.fixture
def takeover(candidate: ReplicaView) -> Takeover:
    takeover = Takeover()
    takeover.begin(candidate, Trouble.SILENT, NOW)
    return takeover


def ask(takeover: Takeover, offset: int) -> int:
    number = takeover.probe_at(offset)
    assert number is not None
    return number


class TestProbes:
    def test_an_answer_counts_for_its_own_offset_only(self, takeover: Takeover, candidate: ReplicaView):
        number = ask(takeover, 100)
        assert takeover.on_answer(candidate, number, 100, PAIR)
        assert takeover.answer(100) == PAIR
        assert takeover.answer(99) is None
        assert takeover.answer(101) is None

    def test_an_offset_is_asked_for_once(self, takeover: Takeover, candidate: ReplicaView):
        number = ask(takeover, 100)
        assert takeover.probe_at(100) is None
        takeover.on_answer(candidate, number, 100, PAIR)
        assert takeover.probe_at(100) is None

    def test_only_so_many_are_open(self, takeover: Takeover, candidate: ReplicaView):
        numbers = [ask(takeover, offset) for offset in range(MAX_OPEN_PROBES)]
        assert takeover.probe_at(99) is None
        takeover.on_answer(candidate, numbers[0], 0, PAIR)
        assert takeover.probe_at(99) is not None

    @pytest.mark.parametrize(("probe_step", "offset"), [(1, 100), (0, 101)])
    def test_what_was_not_asked_is_ignored(
        self, takeover: Takeover, candidate: ReplicaView, probe_step: int, offset: int
    ):
        number = ask(takeover, 100)
        assert takeover.on_answer(candidate, number + probe_step, offset, PAIR)
        assert takeover.answer(offset) is None

    def test_somebody_elses_answer_is_ignored(self, takeover: Takeover):
        number = ask(takeover, 100)
        assert takeover.on_answer(view_of(3), number, 100, PAIR)
        assert takeover.answer(100) is None

    def test_an_output_that_ended_before_is_told(self, takeover: Takeover, candidate: ReplicaView):
        number = ask(takeover, 100)
        assert not takeover.on_answer(candidate, number, 100, None)

    def test_answers_of_an_earlier_candidacy_are_void(self, takeover: Takeover, candidate: ReplicaView):
        number = ask(takeover, 100)
        takeover.on_answer(candidate, number, 100, PAIR)
        takeover.begin(candidate, Trouble.DEAD, NOW)
        assert takeover.answer(100) is None
        second = ask(takeover, 100)
        takeover.on_answer(candidate, number, 100, PAIR)
        assert takeover.answer(100) is None
        takeover.end()
        takeover.on_answer(candidate, second, 100, PAIR)
        assert takeover.answer(100) is None
        assert not takeover.is_running

    def test_probes_lost_with_their_path_are_asked_again(self, takeover: Takeover, candidate: ReplicaView):
        number = ask(takeover, 100)
        takeover.resend()
        assert ask(takeover, 100) != number
        takeover.on_answer(candidate, number, 100, PAIR)
        assert takeover.answer(100) is None


class TestStop:
    def test_a_silent_anchor_is_not_waited_for(self, takeover: Takeover):
        ask(takeover, 100)
        assert takeover.stop_at(0) is None

    def test_a_living_one_is_replaced_at_the_probed_offset(self, candidate: ReplicaView):
        takeover = Takeover()
        takeover.begin(candidate, Trouble.DRAINING, NOW)
        assert takeover.stop_at(0) is None
        number = ask(takeover, 100)
        candidate.produced = 99
        assert takeover.stop_at(0) is None
        candidate.produced = 100
        assert takeover.stop_at(0) == takeover.stop_at(100) == 100
        assert takeover.stop_at(101) is None
        takeover.on_answer(candidate, number, 100, PAIR)
        assert takeover.stop_at(50) == 100


class TestCandidates:
    def test_the_anchor_itself_is_none(self):
        anchor = view_of(1)
        assert best_candidate([anchor], anchor, (0, 0), NOW) is None

    @pytest.mark.parametrize("state", [ViewState.OPENING, ViewState.DEAD, ViewState.DIVERGENT, ViewState.REFUSED])
    def test_only_live_ones(self, state: ViewState):
        assert best_candidate([view_of(2, state=state)], None, (0, 0), NOW) is None

    def test_only_those_that_are_heard(self):
        silent = view_of(2)
        for path in silent.paths.values():
            path.is_silent = True
        assert best_candidate([silent, view_of(3, paths=0)], None, (0, 0), NOW) is None

    def test_none_that_was_reset_and_one_that_drains_only_if_nobody_else_can(self):
        reset, draining, staying = view_of(2), view_of(3), view_of(4)
        reset.reset_at = 10
        draining.agreement.has_agreed = True
        next(iter(draining.paths.values())).is_draining = True
        assert best_candidate([reset], None, (0, 0), NOW) is None
        assert best_candidate([reset, draining], None, (0, 0), NOW) is draining
        assert best_candidate([reset, draining, staying], None, (0, 0), NOW) is staying

    @pytest.mark.parametrize(("taken", "may"), [(9, False), (10, True)])
    def test_one_that_sent_fin_only_with_all_of_the_upstream(self, taken: int, may: bool):
        view = view_of(2)
        view.final, view.received, view.taken = 100, 10, taken
        assert (best_candidate([view], None, (0, 10), NOW) is view) is may

    def test_agreement_then_progress_then_age(self):
        first, second, third = view_of(2), view_of(3), view_of(4)
        assert best_candidate([first, second, third], None, (0, 0), NOW) is first
        third.produced = 5
        assert best_candidate([first, second, third], None, (0, 0), NOW) is third
        second.agreement.has_agreed = True
        assert best_candidate([first, second, third], None, (0, 0), NOW) is second


@pytest.mark.parametrize(
    ("helper", "is_outrun"),
    [
        (Pace(2000, 0.1, 9.0), True),
        (Pace(1999, 0.1, 0.0), False),
        # Its announcements come after 0.2 s, for so long lasts what the anchor owes.
        (Pace(2000, 0.2, 0.0), True),
        (Pace(2000, 0.201, 0.0), False),
    ],
)
def test_who_outruns_an_anchor(helper: Pace, is_outrun: bool):
    assert helper.outruns(Pace(1000, 0.1, 0.2)) is is_outrun
