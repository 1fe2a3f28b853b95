"""What the runs of a rollback left behind: where to read on, and what must not stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from guard.errors import StateError
from guard.rollback import workdir


@dataclass(frozen=True, slots=True)
class Evidence:
    """Paths that exist. ``events``: one file per run, in order; ``logs``: each host's newest ``container.log``."""

    events: tuple[str, ...] = ()
    logs: Mapping[str, str] = field(default_factory=dict)


def evidence(artifacts: Path) -> Evidence:
    """Of one rollback, by its folder. Nothing when retention has deleted it."""
    runs = sorted(artifacts.glob("run-*"), key=lambda run: (len(run.name), run.name))
    events = tuple(str(run / workdir.EVENTS) for run in runs if (run / workdir.EVENTS).is_file())
    logs = {log.parent.name: str(log) for run in runs for log in run.glob(f"{workdir.HOSTS}/*/container.log")}
    return Evidence(events, logs)


def scrub_dead(state_dir: Path) -> tuple[str, ...]:
    """Remove what may hold secrets from runs that were killed outright and that nobody took over. Their folders."""
    scrubbed = []
    for name in workdir.PASSING:
        for folder in {path.parent for path in (state_dir / "runs").glob(f"*/*/{name}")}:
            if workdir.is_held(folder):
                continue
            try:
                scratch = workdir.read_asked(folder).scratch
            except StateError:
                scratch = None
            workdir.scrub(folder, scratch)
            scrubbed.append(str(folder))
    return tuple(scrubbed)
