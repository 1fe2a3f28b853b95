"""Values of the model as plain JSON documents, and back. Unknown keys of a document are ignored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import RowMapping

from guard.decide.thresholds import TargetStatus
from guard.model import (
    HostPlan,
    HostResult,
    HostState,
    Image,
    Observation,
    Plan,
    PlaybookRef,
    RuleAnswer,
    State,
    TargetKey,
)
from guard.store.schema import from_micros, to_micros

Document = dict[str, Any]


def canonical(document: object) -> str:
    """One text per value: sorted keys, no spaces, ASCII. What the audit hashes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def image_document(image: Image | None) -> Document | None:
    return None if image is None else {"image": image.image, "image_id": image.image_id, "digest": image.digest}


def image(document: Document | None) -> Image | None:
    return None if document is None else Image(document["image"], document["image_id"], document.get("digest"))


def images_document(images: Mapping[str, Image]) -> Document:
    return {host: image_document(each) for host, each in images.items()}


def images(document: Document) -> dict[str, Image]:
    return {host: found for host, each in document.items() if (found := image(each)) is not None}


def playbook_document(playbook: PlaybookRef | None) -> Document | None:
    if playbook is None:
        return None
    return {"name": playbook.name, "version": playbook.version, "digest": playbook.digest}


def playbook(document: Document) -> PlaybookRef:
    return PlaybookRef(document["name"], document["version"], document["digest"])


def answers_document(answers: Iterable[RuleAnswer]) -> list[Document]:
    return [{"rule": each.rule, "allows": each.allows, "sentence": each.sentence} for each in answers]


def answers(documents: Iterable[Document]) -> tuple[RuleAnswer, ...]:
    return tuple(RuleAnswer(each["rule"], each["allows"], each["sentence"]) for each in documents)


def plan_document(plan: Plan) -> Document:
    return {
        "service": plan.service,
        "playbook": playbook_document(plan.playbook),
        "backup_tag": plan.backup_tag,
        "batches": [list(batch) for batch in plan.batches],
        "on_batch_failure": plan.on_batch_failure,
        "group": list(plan.group),
        "rejects": plan.rejects,
        "hosts": {name: _host_plan_document(each) for name, each in plan.hosts.items()},
    }


def plan(document: Document) -> Plan:
    return Plan(
        service=document["service"],
        playbook=playbook(document["playbook"]),
        backup_tag=document["backup_tag"],
        batches=tuple(tuple(batch) for batch in document["batches"]),
        on_batch_failure=document["on_batch_failure"],
        group=tuple(document.get("group", ())),
        rejects=document.get("rejects", True),
        hosts={name: _host_plan(each) for name, each in document["hosts"].items()},
    )


def _host_plan_document(host: HostPlan) -> Document:
    return {
        "host": host.host,
        "container": host.container,
        "from": image_document(host.from_),
        "to": image_document(host.to),
        "source": host.source,
        "problem": host.problem,
        "unreachable": host.unreachable,
    }


def _host_plan(document: Document) -> HostPlan:
    return HostPlan(
        host=document["host"],
        container=document["container"],
        from_=image(document["from"]),
        to=image(document["to"]),
        source=document["source"],
        problem=document["problem"],
        unreachable=document["unreachable"],
    )


def host_result_document(result: HostResult) -> Document:
    return {
        "host": result.host,
        "state": result.state.value,
        "from_image": image_document(result.from_),
        "to_image": image_document(result.to),
        "backup_tag": result.backup_tag,
        "downtime_s": result.downtime_s,
        "error": result.error,
        "notice": result.notice,
    }


def host_result(document: RowMapping) -> HostResult:
    return HostResult(
        host=document["host"],
        state=HostState(document["state"]),
        from_=image(document["from_image"]),
        to=image(document["to_image"]),
        backup_tag=document["backup_tag"],
        downtime_s=document["downtime_s"],
        error=document["error"],
        notice=document["notice"],
    )


def observation_document(observation: Observation) -> Document:
    """Without the target, which the reader knows."""
    return {
        "state": observation.state.value,
        "latency_s": observation.latency_s,
        "reason": observation.reason,
        "at": to_micros(observation.at),
        "evidence": dict(observation.evidence),
    }


def status_document(status: TargetStatus) -> Document:
    return {
        "state": status.state.value,
        "failures": status.failures,
        "successes": status.successes,
        "unknowns": status.unknowns,
        "warned": status.warned,
        "crossed": status.crossed,
        "recent": status.recent,
        "last": None if status.last is None else observation_document(status.last),
    }


def status(target: TargetKey, document: RowMapping) -> TargetStatus:
    last = document["last"]
    return TargetStatus(
        state=State(document["state"]),
        failures=document["failures"],
        successes=document["successes"],
        unknowns=document["unknowns"],
        warned=document["warned"],
        crossed=document["crossed"],
        recent=document["recent"],
        last=None
        if last is None
        else Observation(
            target, State(last["state"]), last["latency_s"], last["reason"], from_micros(last["at"]), last["evidence"]
        ),
    )
