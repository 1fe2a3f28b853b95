"""What a tired person reads: what happened, where, and the next command."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from guard.decide.names import names_text
from guard.model import (
    Gate,
    GateOutcome,
    HostResult,
    HostState,
    Image,
    Phase,
    Rollback,
    RollbackOutcome,
    Trigger,
)
from guard.report.text import gate_text, history_text, rollback_text

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
OLD, NEW = Image("web:1.1.0", "sha256:" + "a" * 64), Image("web:1.0.0", "sha256:" + "b" * 64)
TAG = "backup_20261124_100000"


def host(name: str, state: HostState, error: str | None = None, **more: object) -> HostResult:
    return replace(HostResult(name, state, OLD, NEW, error=error), **more)  # type: ignore[arg-type]


RESTORED = host("web1", HostState.RESTORED, backup_tag=TAG, downtime_s=0.5)
REVERTED = host("web2", HostState.REVERTED, "it exited with code 1", backup_tag=TAG, downtime_s=1.25)
AWAY = host("web3", HostState.UNREACHABLE, "the SSH connection failed")
SKIPPED = replace(host("web4", HostState.SKIPPED, "the image is gone"), to=None)
FAILED = host("web5", HostState.FAILED, "no space left on device")


def rollback(outcome: RollbackOutcome, *hosts: HostResult, **more: object) -> Rollback:
    made = Rollback(
        "rb-1", "web", outcome, Phase.ENDED, Trigger.MANUAL, "asked for by ada", None, NOW, NOW + timedelta(seconds=7),
        {one.host: one for one in hosts}, "/state/runs/rb-1", False,
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


CASES = [
    (RESTORED, "web:1.1.0 (aaaaaaaaaaaa) -> web:1.0.0 (bbbbbbbbbbbb); down 0.50 s"),
    (
        REVERTED,
        "runs web:1.1.0 (aaaaaaaaaaaa) again; down 1.25 s; web:1.0.0 (bbbbbbbbbbbb) did not hold: it exited with code 1",
    ),
    (
        AWAY,
        "the SSH connection failed; was to get web:1.0.0 (bbbbbbbbbbbb) in place of web:1.1.0 (aaaaaaaaaaaa)",
    ),
    (SKIPPED, "the image is gone"),
    (FAILED, "no space left on device; was to get web:1.0.0 (bbbbbbbbbbbb) in place of web:1.1.0 (aaaaaaaaaaaa)"),
]


@pytest.mark.parametrize(("result", "said"), CASES, ids=lambda case: getattr(case, "host", ""))
def test_a_host_s_line_says_what_runs_there_and_why(result: HostResult, said: str) -> None:
    lines = rollback_text(rollback(RollbackOutcome.PARTIAL, result))
    assert f"  {result.host}  {result.state.value}  {said}" in lines


NEXT = [
    (rollback(RollbackOutcome.RESTORED, RESTORED), []),
    (rollback(RollbackOutcome.REFUSED, SKIPPED), []),
    (
        rollback(RollbackOutcome.REFUSED, SKIPPED, reason="asked for by ada; hold: held until noon by bob: migration"),
        ["`guard unhold web` ends the hold; `guard rollback web --force` overrides it"],
    ),
    (
        rollback(RollbackOutcome.UNFINISHED, RESTORED, ended_at=None),
        ["`guard resume rb-1` finishes it; a running `guard watch` does so by itself"],
    ),
    (
        rollback(RollbackOutcome.PARTIAL, RESTORED, AWAY),
        ["`guard resume rb-1` once web3 can be reached; a running `guard watch` does so by itself"],
    ),
    (
        rollback(RollbackOutcome.PARTIAL, RESTORED, REVERTED, SKIPPED),
        [
            "`guard history rb-1` says where the last output of web2 is",
            "`guard rollback web --to IMAGE --limit 'web2,web4'` restores another image",
        ],
    ),
    (
        rollback(RollbackOutcome.FAILED, REVERTED),
        [
            "`guard history rb-1` says where the last output of web2 is",
            "`guard rollback web --to IMAGE` restores another image",
        ],
    ),
    (
        rollback(RollbackOutcome.FAILED, RESTORED),
        ["`guard check web` says what fails; `guard rollback web --to IMAGE` goes elsewhere"],
    ),
]


@pytest.mark.parametrize(("record", "steps"), NEXT)
def test_what_to_do_next_names_the_command_and_the_hosts(record: Rollback, steps: list[str]) -> None:
    said = [line.removeprefix("  next       ") for line in rollback_text(record) if line.startswith("  next ")]
    assert said == steps


FAILURES = [
    ((REVERTED,), "FAILED: no host is restored; every host runs again what it ran before"),
    ((RESTORED, AWAY), "FAILED: the images are back, but the checks do not hold"),
    ((FAILED, REVERTED), "FAILED: no host is restored"),
]


@pytest.mark.parametrize(("hosts", "said"), FAILURES)
def test_a_failure_says_what_it_left_behind(hosts: tuple[HostResult, ...], said: str) -> None:
    assert rollback_text(rollback(RollbackOutcome.FAILED, *hosts))[0] == f"rollback rb-1 of web: {said}"


def test_the_paths_of_events_and_container_logs_are_told() -> None:
    lines = rollback_text(rollback(RollbackOutcome.PARTIAL, RESTORED), ["/r/events.jsonl"], {"web2": "/r/c.log"})
    assert "  events     /r/events.jsonl" in lines and "  log        web2: /r/c.log" in lines


def test_the_backup_tag_names_its_hosts_when_not_all_have_it() -> None:
    some = rollback_text(rollback(RollbackOutcome.PARTIAL, RESTORED, AWAY))
    every = rollback_text(rollback(RollbackOutcome.PARTIAL, RESTORED, REVERTED))
    assert f"  backup     what ran before is tagged {TAG} on web1" in some
    assert f"  backup     what ran before is tagged {TAG}" in every


def test_a_resumed_rollback_does_not_count_the_wait_as_its_duration() -> None:
    record = rollback(RollbackOutcome.RESTORED, RESTORED, reason="asked for by ada; resumed; 1 restored; verified")
    assert "  trigger    manual, begun 2026-11-24 10:00:00Z, resumed, ended 2026-11-24 10:00:07Z" in rollback_text(
        record
    )


def test_a_failed_gate_whose_rollback_was_finished_later_says_so() -> None:
    gate = Gate("gt-1", ("web",), GateOutcome.ROLLBACK_FAILED, "3 failures", NOW, NOW)
    since = "  since      resumed after the gate: every host is back and verified now"
    assert since in gate_text(gate, [rollback(RollbackOutcome.RESTORED, RESTORED)])
    assert since not in gate_text(gate, [rollback(RollbackOutcome.PARTIAL, RESTORED, AWAY)])


def test_the_history_says_why_a_rollback_was_refused() -> None:
    record = rollback(RollbackOutcome.REFUSED, SKIPPED, reason="asked for by ada; hold: held until noon")
    assert history_text([record], [])[1].endswith("refused  asked for by ada; hold: held until noon")


def test_many_names_are_cut() -> None:
    assert names_text([f"web{n}" for n in range(1, 8)]) == "web1, web2, web3, web4, web5 and 2 more"
