"""The matrix: every durable step against everybody who can be killed at it. What is run, what is the same event, and the table.

By default a crossing that is provably the same event as another is not run twice; ``--crash-points=all`` (or ``python -m
tests.faults``) runs every one that has a process to kill.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from .crash import Survived
from .points import MODULE, POINTS, Cell, Nobody, Same, Victim

MATRIX = pytest.StashKey[list[str]]()  # the lines to be shown when all is over
PREPARING = MODULE[: MODULE.index("rename-old")]
UNDOING = tuple(step for step in MODULE if step.startswith("undo:"))
BEFORE_THE_RUN = ("guard:decided", "guard:claimed", "guard:preparing", "shim:run.json")
HOSTS_ARE_DONE = "the hosts are done: their engines' own restart policy decides"


def crossing(point: str, victim: Victim) -> Cell | Same | Nobody:
    """What the matrix does about one crossing."""
    cell = Cell(point, victim)
    if point in MODULE:
        return _at_module(cell)
    if victim is Victim.GUARD:
        return cell
    if victim is Victim.ENGINE:
        if point in BEFORE_THE_RUN or point == "shim:pid":
            return (
                cell if point == "guard:preparing" else Same(Cell("guard:preparing", victim), "no host is touched yet")
            )
        return Nobody(HOSTS_ARE_DONE)
    if point == "shim:pid":
        return cell if victim is Victim.SHIM else Nobody("not started yet")
    return Nobody("no run yet" if point in BEFORE_THE_RUN else "the run is over")


def _at_module(cell: Cell) -> Cell | Same | Nobody:
    point, victim = cell.point, cell.victim
    if point == "discard":
        return _at_discard(cell)
    if point == "done" and victim is Victim.MODULE:
        return Nobody("it has ended")
    if point == "done" and victim is Victim.ENGINE:
        return Nobody(HOSTS_ARE_DONE)
    if point == "create-spare" and victim is Victim.ENGINE:
        return Nobody("an engine that crashes removes a --rm container by itself, and with it what could be restored")
    example = "create-new" if point in PREPARING else "undo:start-old" if point in UNDOING else "start-new"
    if victim is Victim.ENGINE and point in PREPARING and point != example:
        return Same(Cell(example, victim), "the module ends at once, and leaves what it leaves when it is killed there")
    if victim in (Victim.MODULE, Victim.ENGINE):
        return cell  # each step leaves another state behind: all are run
    if point == example or (point == "done" and victim in (Victim.GUARD, Victim.SSH)):
        return cell
    if point == "done":
        return Same(Cell("done", Victim.SSH), "the answer is lost")
    why = {
        Victim.GUARD: "guard only waits while the module works",
        Victim.SHIM: "the module only sees its connection end, and goes on",
        Victim.ANSIBLE: "the module only sees its connection end, and goes on",
        Victim.SSH: "the module only sees its connection end, and goes on",
    }[victim]
    return Same(Cell(example, victim), why)


def _at_discard(cell: Cell) -> Cell | Same | Nobody:
    if cell.victim in (Victim.MODULE, Victim.ENGINE, Victim.SSH):
        return cell
    if cell.victim is Victim.GUARD:
        return Nobody("a discard is no rollback: nothing is open")
    return Same(Cell("discard", Victim.SSH), "the module only sees its connection end, and goes on")


def cells(everything: bool = False) -> list[Cell]:
    """What is to be run. The slow ones first, so that none is left alone at the end."""
    found = []
    for point in POINTS:
        for victim in Victim:
            what = crossing(point, victim)
            if isinstance(what, Cell) or (everything and isinstance(what, Same)):
                found.append(Cell(point, victim))
    return sorted(found, key=lambda cell: cell.victim is not Victim.ENGINE)


def table(survived: Mapping[Cell, Survived | None]) -> list[str]:
    """Points down, victims across. None: it was run and not survived."""
    rows = [["", *(victim.value for victim in Victim)]]
    rows += [[point, *(_word(Cell(point, victim), survived) for victim in Victim)] for point in POINTS]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, "", *_legend(survived)]


def _word(cell: Cell, survived: Mapping[Cell, Survived | None]) -> str:
    if cell in survived:
        how = survived[cell]
        return how.how if how else "NOT SURVIVED"
    what = crossing(cell.point, cell.victim)
    if isinstance(what, Nobody):
        return "-"
    return f"= {what.cell.point}" if isinstance(what, Same) else "not run"


def _legend(survived: Mapping[Cell, Survived | None]) -> Iterable[str]:
    good = sum(how is not None for how in survived.values())
    yield f"{good} of {len(survived)} kills survived. Who finished: 'by itself' the same command or the module,"
    yield "'resume' one guard resume, 'adopted' it found the run alive. '= POINT' is the same event as there, '-' nobody:"
    reasons: dict[str, list[str]] = {}
    for point in POINTS:
        for victim in Victim:
            what = crossing(point, victim)
            if not isinstance(what, Cell):
                sign = "-" if isinstance(what, Nobody) else "="
                reasons.setdefault(f"{sign} {what.why}", []).append(str(Cell(point, victim)))
    yield from (f"  {why} ({len(where)} crossings)" for why, where in sorted(reasons.items()))
