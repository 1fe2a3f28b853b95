"""How events and results are written down and read back: the line format of ``events.jsonl`` and ``result.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from guard.model import HostResult, HostState, Image
from guard.rollback.outcome import Ending, Event, EventKind, module_result

_KINDS = {kind.value: kind for kind in EventKind}
_CARRIED = (
    "state",
    "changed",
    "from",
    "to",
    "backup_tag",
    "downtime_s",
    "error",
    "notice",
    "kind",
    "container_id",
    "unreachable",
    "word",
    "rc",
    "module_stdout",
)
_EXPLAINS = ("error", "msg", "module_stderr", "stderr", "module_stdout", "exception")
_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: ``rc`` is ansible-playbook's (never the judge), ``hosts`` has every host of the run."""

    folder: Path
    ending: Ending
    rc: int | None
    hosts: Mapping[str, HostResult]
    error: str = ""


def event_of(raw: Mapping[str, object]) -> Event | None:
    """An ansible-runner event that says something about a host, or None."""
    kind = _KINDS.get(str(raw.get("event")))
    data = raw.get("event_data")
    if kind is None or not isinstance(data, Mapping) or not isinstance(data.get("host"), str):
        return None
    result = data.get("res")
    return Event(
        kind=kind,
        host=data["host"],
        task=str(data.get("task") or ""),
        result=result if isinstance(result, Mapping) else {},
        ignored=bool(data.get("ignore_errors")),
    )


def slim(event: Event) -> Event:
    """The event with only what decides and explains: logs and steps are in the host's own evidence files."""
    kept: dict[str, object] = {key: event.result[key] for key in _CARRIED if key in event.result}
    if event.kind in (EventKind.FAILED, EventKind.UNREACHABLE):
        kept |= {key: str(event.result[key])[:_LONGEST] for key in _EXPLAINS if event.result.get(key)}
    return Event(event.kind, event.host, event.task, kept, event.ignored)


def is_module_result(event: Event) -> bool:
    return module_result(event.host, event.result) is not None


def line(event: Event, number: int, at: str) -> str:
    document: dict[str, object] = {"n": number, "at": at, "event": event.kind.value, "host": event.host}
    document["task"] = event.task
    if event.result:
        document["result"] = dict(event.result)
    if event.ignored:
        document["ignored"] = True
    return json.dumps(document, default=str) + "\n"


def parse(text: str) -> Event | None:
    """One line of ``events.jsonl``. None for a line that was cut off by a crash."""
    try:
        said = json.loads(text)
        return Event(
            kind=EventKind(said["event"]),
            host=str(said["host"]),
            task=str(said.get("task") or ""),
            result=said.get("result") or {},
            ignored=bool(said.get("ignored")),
        )
    except (ValueError, KeyError, TypeError):
        return None


def result_document(result: RunResult, times: Mapping[str, str]) -> dict[str, object]:
    return {
        "ending": result.ending.value,
        "rc": result.rc,
        **times,
        "error": result.error or None,
        "hosts": {host: _host_document(one) for host, one in result.hosts.items()},
    }


def read_result(folder: Path, text: str) -> RunResult:
    """The inverse of ``result_document``. ValueError or KeyError when it is not one."""
    said = json.loads(text)
    return RunResult(
        folder=folder,
        ending=Ending(said["ending"]),
        rc=said["rc"],
        hosts={host: _host(host, one) for host, one in said["hosts"].items()},
        error=said.get("error") or "",
    )


def _host_document(result: HostResult) -> dict[str, object]:
    return {
        "state": result.state.value,
        "from": _image_document(result.from_),
        "to": _image_document(result.to),
        "backup_tag": result.backup_tag,
        "downtime_s": result.downtime_s,
        "error": result.error,
        "notice": result.notice,
    }


def _image_document(image: Image | None) -> dict[str, str | None] | None:
    return None if image is None else {"image": image.image, "image_id": image.image_id, "digest": image.digest}


def _host(host: str, said: Mapping[str, object]) -> HostResult:
    downtime = said.get("downtime_s")
    tag, error, notice = said.get("backup_tag"), said.get("error"), said.get("notice")
    return HostResult(
        host=host,
        state=HostState(str(said["state"])),
        from_=_image(said.get("from")),
        to=_image(said.get("to")),
        backup_tag=str(tag) if tag is not None else None,
        downtime_s=float(downtime) if isinstance(downtime, int | float) else None,
        error=str(error) if error is not None else None,
        notice=str(notice) if notice is not None else None,
    )


def _image(said: object) -> Image | None:
    if not isinstance(said, Mapping):
        return None
    digest = said.get("digest")
    return Image(str(said["image"]), str(said["image_id"]), str(digest) if digest is not None else None)
