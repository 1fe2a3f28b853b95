"""What a run's events say about each host. PURE: events in, results out.

An exit code is never trusted: a play that matched no host, or that ignored unreachable hosts, ends with 0. A host is
``restored`` or ``unchanged`` only by its own module result that names the image it saw, and that image is the target.
A host without such a result is never good. One whose module was cut off before it could answer stays ``planned``: what
happened there is unknown, and it is still to be done.

A module result is a mapping with ``state``, ``from`` and ``to`` (see docs/playbooks.md). ``planned`` announces: the
host is prepared and its turn has not come. Everything else is final, and the last word about a host counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from guard.model import HostResult, HostState, Image

LONGEST_ERROR = 600
_GOOD = (HostState.RESTORED, HostState.UNCHANGED)
_SAID = {
    state.value: state
    for state in (HostState.RESTORED, HostState.UNCHANGED, HostState.REVERTED, HostState.FAILED, HostState.PLANNED)
}


class EventKind(StrEnum):
    """The ansible-runner events that say something about a host, under ansible-runner's own names."""

    START = "runner_on_start"
    OK = "runner_on_ok"
    FAILED = "runner_on_failed"
    UNREACHABLE = "runner_on_unreachable"
    SKIPPED = "runner_on_skipped"


class Ending(StrEnum):
    """How a run ended. Only ``FINISHED`` says that Ansible came to its own end (whatever its exit code)."""

    FINISHED = "finished"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    BROKEN = "broken"  # guard's own part failed: Ansible could not be started, or events could not be written
    LOST = "lost"  # the run vanished without a result: what it did is unknown until the hosts are looked at


@dataclass(frozen=True, slots=True)
class Event:
    kind: EventKind
    host: str
    task: str = ""
    result: Mapping[str, object] = field(default_factory=dict)
    ignored: bool = False  # the task has ignore_errors: a failure of it is none


@dataclass(frozen=True, slots=True)
class HostProgress:
    """One host as far as the events go. ``running`` is the task that began and has not ended."""

    host: str
    running: str = ""
    seen: bool = False
    prepared: HostResult | None = None
    final: HostResult | None = None


Progress = Mapping[str, HostProgress]


def begin(hosts: Iterable[str]) -> dict[str, HostProgress]:
    return {host: HostProgress(host) for host in hosts}


def fold(progress: Progress, event: Event, targets: Mapping[str, str]) -> dict[str, HostProgress]:
    """The next progress. ``targets`` are the image IDs the hosts are to run; events of other hosts change nothing."""
    known = dict(progress)
    if event.host in known:
        known[event.host] = _next(known[event.host], event, targets.get(event.host))
    return known


def conclude(progress: Progress, ending: Ending, *, check: bool = False) -> dict[str, HostResult]:
    """A result for every host. ``check``: nothing was to be swapped, so ``planned`` is how a host may end."""
    trouble = any(_is_trouble(one.final) for one in progress.values())
    return {host: _conclude(one, ending, trouble, check) for host, one in progress.items()}


def _next(host: HostProgress, event: Event, target: str | None) -> HostProgress:
    if event.kind is EventKind.START:
        return replace(host, running=event.task or "a task", seen=True)
    ended = replace(host, running="", seen=True)
    if event.kind is EventKind.UNREACHABLE:
        return replace(ended, final=_unreachable(ended, event))
    said = module_result(event.host, event.result)
    if event.kind is EventKind.FAILED:
        if said is None and event.ignored and not _was_killed(event.result):
            return ended
        return replace(ended, final=_failed(ended, event, said))
    if event.kind is EventKind.OK and said is not None:
        return _took(ended, said, target)
    return ended


def _took(host: HostProgress, said: HostResult, target: str | None) -> HostProgress:
    if said.state is HostState.PLANNED:
        return replace(host, prepared=said)
    if said.state is HostState.UNCHANGED and _id(said.from_) != (target or _id(said.to)):
        return host  # "changed nothing" by a clean-up, which is not "the target runs there already"
    if said.state in _GOOD and said.to is None:
        return replace(host, final=replace(said, state=HostState.FAILED, error="the module did not say what runs now"))
    if said.state in _GOOD and target and _id(said.to) != target:
        error = f"{_id(said.to)} runs now instead of the target {target}"
        return replace(host, final=replace(said, state=HostState.FAILED, error=error))
    return replace(host, final=said)


def module_result(host: str, result: Mapping[str, object]) -> HostResult | None:
    """A restore module's result, or None when a task's result is something else."""
    state = result.get("state")
    if not isinstance(state, str) or state not in _SAID or "from" not in result or "to" not in result:
        return None
    downtime = result.get("downtime_s")
    tag = result.get("backup_tag")
    error, notice = result.get("error"), result.get("notice")
    return HostResult(
        host=host,
        state=_SAID[state],
        from_=_image(result["from"]),
        to=_image(result["to"]),
        backup_tag=tag if isinstance(tag, str) else None,
        downtime_s=float(downtime) if isinstance(downtime, int | float) and not isinstance(downtime, bool) else None,
        error=_short(error) if isinstance(error, str) and error else None,
        notice=_short(notice) if isinstance(notice, str) and notice else None,
    )


def _image(said: object) -> Image | None:
    if not isinstance(said, Mapping) or not isinstance(said.get("image_id"), str) or not said["image_id"]:
        return None
    digest = said.get("digest")
    return Image(str(said.get("image") or ""), said["image_id"], digest if isinstance(digest, str) else None)


def _id(image: Image | None) -> str | None:
    return image.image_id if image else None


def _failed(host: HostProgress, event: Event, said: HostResult | None) -> HostResult:
    """A failed task. Only ``reverted`` survives a failure; a good state with a failure contradicts itself.

    A module that was killed said nothing, and one whose engine went away knows nothing: neither is a failure.
    """
    if said is None and _was_killed(event.result):
        known = host.prepared or HostResult(host.host, HostState.PLANNED)
        error = f"{event.task!r} was killed there: what happened on this host is unknown until it is looked at"
        return replace(known, state=HostState.PLANNED, error=error)
    if said is not None and event.result.get("kind") == "engine_gone":
        return replace(said, state=HostState.UNREACHABLE, downtime_s=None)
    told = _told(event.result) or f"task {event.task!r} failed and did not say why"
    if said is not None:
        state = HostState.REVERTED if said.state is HostState.REVERTED else HostState.FAILED
        return replace(said, state=state, error=said.error or told)
    before = host.final or host.prepared or HostResult(host.host, HostState.FAILED)
    done = f"{before.state.value}, but then " if host.final and host.final.state in _GOOD else ""
    if host.final and host.final.state is HostState.REVERTED:
        done = f"reverted ({host.final.error}), and then "
    return replace(before, state=HostState.FAILED, error=_short(f"{done}task {event.task!r} failed: {told}"))


def _unreachable(host: HostProgress, event: Event) -> HostResult:
    """Unreachable is not failed: the command may have completed there all the same, so nothing is known."""
    before = host.final or host.prepared or HostResult(host.host, HostState.UNREACHABLE)
    told = _told(event.result) or "could not be reached"
    return replace(before, state=HostState.UNREACHABLE, downtime_s=None, error=_short(told))


def _was_killed(result: Mapping[str, object]) -> bool:
    """No answer could be read from the module, and the shell on the host tells 128 + the signal's number."""
    code = result.get("rc")
    return "module_stdout" in result and isinstance(code, int) and (code > 128 or code < 0)


def _told(result: Mapping[str, object]) -> str:
    for key in ("error", "msg", "module_stderr", "stderr", "module_stdout", "exception"):
        said = result.get(key)
        if isinstance(said, str) and said.strip():
            return _short(said.strip())
    return ""


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_ERROR else text[: LONGEST_ERROR - 1] + "…"


def _is_trouble(result: HostResult | None) -> bool:
    return result is not None and result.state not in _GOOD


def _conclude(host: HostProgress, ending: Ending, trouble: bool, check: bool) -> HostResult:
    if host.final is not None and not host.running:
        return host.final
    known = host.final or host.prepared or HostResult(host.host, HostState.FAILED)
    if host.running or ending in _BROKE_OFF:
        during = f" during {host.running!r}" if host.running else ""
        error = f"{_ENDED[ending]}{during}: what happened on this host is unknown until it is looked at"
        stopped = ending is Ending.CANCELLED  # somebody wanted an end, so it is not begun again
        return replace(known, state=HostState.FAILED if stopped else HostState.PLANNED, error=error)
    if check and host.prepared is not None and ending is Ending.FINISHED:
        return host.prepared
    if ending is not Ending.FINISHED:
        return replace(known, state=HostState.SKIPPED, error=f"{_ENDED[ending]} before its turn")
    if trouble:
        return replace(
            known, state=HostState.SKIPPED, error="not touched: the run stopped after another host's failure"
        )
    error = "the playbook ended without a result for this host"
    return replace(known, state=HostState.FAILED, error=error)


_BROKE_OFF = (Ending.BROKEN, Ending.LOST)  # an end that nobody chose
_ENDED = {
    Ending.FINISHED: "the run ended",
    Ending.CANCELLED: "the run was cancelled",
    Ending.TIMED_OUT: "the run was ended at its time-out",
    Ending.BROKEN: "the run broke off",
    Ending.LOST: "the run vanished without a result",
}
