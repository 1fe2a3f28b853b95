"""Replaying what was observed: with the settings of then it says what was said then; with others, what would have been."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.decide.replay import Reset, Rules, ServicePolicy, crossings, judge, steps
from guard.decide.thresholds import Thresholds, Transition
from guard.decide.timeline import condense
from guard.model import Observation, State, TargetKey
from guard.service.counting import Counters

BEGUN = datetime(2026, 11, 23, tzinfo=UTC)
STATES = {"h": State.HEALTHY, "d": State.DEGRADED, "u": State.UNHEALTHY, "?": State.UNKNOWN}
A, B = TargetKey("web", "http", "web1"), TargetKey("web", "http", "web2")
DB = TargetKey("db", "postgres")


def at(second: float) -> datetime:
    return BEGUN + timedelta(seconds=second)


def row(states: str, key: TargetKey = A, begun: float = 0) -> list[Observation]:
    return [Observation(key, STATES[s], 0.01, "because", at(begun + n)) for n, s in enumerate(states)]


def rules(failure: int = 3, quorum: str | int = "any", stale_s: float | None = None) -> Rules:
    keys = (A, B, DB)
    stale = {} if stale_s is None else dict.fromkeys(keys, stale_s)
    return Rules({key: Thresholds(failure=failure) for key in keys}, {"web": quorum, "db": "any"}, stale)


@pytest.mark.parametrize(
    ("states", "failure", "when"),
    [
        ("hhuuuhh", 3, [4]),
        ("hhuuuhh", 4, []),
        ("hhuuuhh", 2, [3]),
        ("uuuuuuu", 3, [2]),  # said once per row
        ("uuuhuuu", 3, [2, 6]),
        ("u?u?u", 3, [4]),
        ("", 1, []),
    ],
)
def test_other_thresholds_move_the_crossing_or_do_away_with_it(states: str, failure: int, when: list[int]) -> None:
    assert [one.at for one in crossings(row(states), rules(failure))] == [at(second) for second in when]


def test_a_reset_lets_the_row_begin_again() -> None:
    assert [c.at for c in crossings(row("uuuuuuu"), rules(), [Reset(at(3), "web")])] == [at(2), at(6)]
    assert [c.at for c in crossings(row("uuuuuuu"), rules(), [Reset(at(3), "db")])] == [at(2)]


def test_a_long_time_without_an_observation_breaks_the_row() -> None:
    observed = [*row("uu"), *row("u", begun=60)]
    assert crossings(observed, rules(stale_s=50)) == ()
    assert len(crossings(observed, rules(stale_s=120))) == 1


def test_the_quorum_counts_every_target_of_the_service_that_was_observed() -> None:
    observed = sorted([*row("uuu"), *row("huuu", B, 0.5)], key=lambda one: one.at)
    assert [c.at for c in crossings(observed, rules(quorum="100%"))] == [at(3.5)]
    assert [c.at for c in crossings(observed, rules(quorum="any"))] == [at(2)]


def test_a_target_without_thresholds_is_left_out() -> None:
    assert crossings(row("uuu", TargetKey("web", "gone", "web1")), rules()) == ()


def test_a_second_crossing_within_min_gap_a_failed_dependency_and_what_is_not_critical_are_not_rolled_back() -> None:
    web = row("uuuh" * 2)
    judged = judge(crossings(web, rules()), {"web": ServicePolicy(min_gap_s=60)})
    assert [(one.rolls_back, [a.rule for a in one.answers if not a.allows]) for one in judged] == [
        (True, []),
        (False, ["min_gap"]),
    ]
    observed = sorted([*row("uuu", DB), *row("uuu", begun=0.5)], key=lambda one: one.at)
    policy = {"web": ServicePolicy(depends_on=("db",)), "db": ServicePolicy(critical=False)}
    judged = judge(crossings(observed, rules()), policy)
    assert [[a.rule for a in one.answers if not a.allows] for one in judged] == [["critical"], ["dependency"]]


ROWS = st.lists(st.tuples(st.sampled_from([A, B, DB]), st.sampled_from(list(STATES))), max_size=80)
SETTINGS = st.builds(Thresholds, failure=st.integers(1, 5), warning=st.integers(1, 5), success=st.integers(1, 3))


@given(ROWS, SETTINGS, st.sampled_from(["any", 2, "50%", "100%"]), st.sets(st.integers(0, 80), max_size=3))
def test_a_replay_with_the_settings_of_then_says_what_the_counters_said_then(
    said: list[tuple[TargetKey, str]], thresholds: Thresholds, quorum: str | int, resets: set[int]
) -> None:
    observed = [Observation(key, STATES[s], None, "because", at(n)) for n, (key, s) in enumerate(said)]
    keys = {o.target for o in observed}
    settings = Rules(dict.fromkeys(keys, thresholds), {"web": quorum, "db": quorum})
    live = Counters(dict.fromkeys(keys, thresholds), {key.service: quorum for key in keys})
    expected: list[tuple[str, datetime]] = []
    transitions: list[Transition | None] = []
    before: frozenset[str] = frozenset()
    for number, observation in enumerate(observed):
        if number in resets:
            live.reset("web")
        transitions.append(live.take(observation))
        expected += [(service, observation.at) for service in sorted(live.failed_services() - before)]
        before = live.failed_services()
    moments = [Reset(at(number - 0.5), "web") for number in resets]
    assert [(c.service, c.at) for c in crossings(observed, settings, moments)] == expected
    again = steps(observed, settings, moments)
    assert [step.transition for step in again] == transitions


@given(ROWS, SETTINGS)
def test_condensing_loses_no_observation_and_tells_every_transition(
    said: list[tuple[TargetKey, str]], thresholds: Thresholds
) -> None:
    observed = [Observation(key, STATES[s], None, "because", at(n)) for n, (key, s) in enumerate(said)]
    all_steps = steps(observed, Rules(dict.fromkeys((A, B, DB), thresholds), {}))
    told = condense(all_steps)
    assert sum(one.count for one in told) == len(observed)
    assert sorted(str(one.transition) for one in told if one.transition) == sorted(
        str(step.transition) for step in all_steps if step.transition
    )


def test_a_run_of_equal_states_is_one_entry_and_each_failure_has_its_counter() -> None:
    told = condense(steps(row("hhhhuuuhh"), rules()))
    assert [(one.state.value, one.count, one.failures, one.transition) for one in told] == [
        ("healthy", 4, 0, None),
        ("unhealthy", 1, 1, None),
        ("unhealthy", 1, 2, Transition.WARNING),
        ("unhealthy", 1, 3, Transition.THRESHOLD),
        ("healthy", 2, 0, Transition.RECOVERED),
    ]


def test_a_very_long_row_of_failures_is_not_told_one_by_one() -> None:
    assert len(condense(steps(row("u" * 500), rules()))) < 15
