"""A replay as text and as one JSON document."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from guard.decide.policy import vetoes
from guard.decide.replay import Judged
from guard.model import Rollback
from guard.report.documents import Document, time_text
from guard.report.explain import WIDTH
from guard.report.text import clock_text


@dataclass(frozen=True, slots=True)
class Would:
    """A crossing of the replay. ``really``: the rollback that was really decided then, if there was one."""

    judged: Judged
    source: str
    really: Rollback | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """``observations``: how many, by service. ``only_really``: automatic rollbacks that were decided then and would
    not have been. ``changed``: the settings that differ from the configuration, as they were asked for."""

    since: datetime
    until: datetime
    changed: Mapping[str, object]
    observations: Mapping[str, int]
    would: tuple[Would, ...]
    only_really: tuple[Rollback, ...]
    inexact: tuple[str, ...]


def replay_document(told: Replayed) -> Document:
    return {
        "since": time_text(told.since),
        "until": time_text(told.until),
        "settings": dict(told.changed),
        "observations": dict(told.observations),
        "would": [
            {
                "service": one.judged.crossing.service,
                "at": time_text(one.judged.crossing.at),
                "source": one.source,
                "rolls_back": one.judged.rolls_back,
                "reason": one.judged.crossing.reason,
                "rules": [
                    {"rule": answer.rule, "allows": answer.allows, "sentence": answer.sentence}
                    for answer in one.judged.answers
                ],
                "really": _really(one.really),
            }
            for one in told.would
        ],
        "only_really": [_really(one) for one in told.only_really],
        "inexact": list(told.inexact),
    }


def replay_text(told: Replayed) -> list[str]:
    rolls_back = [one for one in told.would if one.judged.rolls_back]
    count = sum(told.observations.values())
    with_ = ", ".join(f"{key} {value}" for key, value in told.changed.items()) or "the configured settings"
    lines = _wrapped(f"{_sentence(len(rolls_back))} with {with_}, by {count} observations of {_names(told)}.")
    lines.append(f"from {clock_text(told.since)} to {clock_text(told.until)}")
    for one in told.would:
        crossing = one.judged.crossing
        said = "; ".join(f"{answer.rule}: {answer.sentence}" for answer in vetoes(one.judged.answers))
        what = "would be rolled back" if one.judged.rolls_back else f"would not be rolled back ({said})"
        by = "watch" if one.source == "watch" else f"gate {one.source}"
        lines += ["", f"{clock_text(crossing.at)}  {crossing.service}, seen by {by}"]
        lines += _wrapped(what, "  then    ", "          ")
        lines += _wrapped(_really_text(one.really), "  really  ", "          ")
        lines += _wrapped(crossing.reason, "  why     ", "          ")
    for rollback in told.only_really:
        lines += ["", f"{clock_text(rollback.started_at)}  {rollback.service}"]
        lines += ["  then    nothing: its threshold would not have been crossed"]
        lines += _wrapped(_really_text(rollback), "  really  ", "          ")
    if told.inexact:
        lines += ["", "INEXACT", *(line for text in told.inexact for line in _wrapped(text, "  ", "  "))]
    return lines


def _sentence(count: int) -> str:
    if not count:
        return "Nothing would have been rolled back"
    return "1 rollback would have been made" if count == 1 else f"{count} rollbacks would have been made"


def _names(told: Replayed) -> str:
    return ", ".join(told.observations)


def _really(rollback: Rollback | None) -> Document | None:
    if rollback is None:
        return None
    return {
        "id": rollback.id,
        "service": rollback.service,
        "outcome": rollback.outcome.value,
        "started_at": time_text(rollback.started_at),
        "gate": rollback.gate_id,
    }


def _really_text(rollback: Rollback | None) -> str:
    return "nothing" if rollback is None else f"{rollback.outcome.value}: {rollback.id}"


def _wrapped(text: str, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
