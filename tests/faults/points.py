"""Every durable step there is, by name, as the code itself lists them; and where the matrix runs them.

Three who write things down: guard (its phases, in the store), the shim (the run's folder) and the module (its journal
on the host). A step that is added to the code and not to the matrix fails ``test_crash_points.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from guard.model import Phase
from guard.rollback import workdir
from playbooks.parts import points as on_host

GUARD = tuple(f"guard:{phase.value}" for phase in Phase)
SHIM = tuple(f"shim:{name}" for name in workdir.DURABLE)
MODULE = on_host.STEPS
POINTS = (*GUARD, *SHIM, *MODULE)
REVERTING = ("guard:reverting", "guard:reverted")  # only where `on_batch_failure: revert` was asked for
GOES_BACK = (*(step for step in MODULE if step.startswith("undo:")), *REVERTING)  # the target does not hold


class Victim(StrEnum):
    """Who is killed with SIGKILL. ``SSH`` is the session's process on the host."""

    GUARD = "guard"
    SHIM = "shim"
    ANSIBLE = "ansible"
    MODULE = "module"
    SSH = "ssh"
    ENGINE = "dockerd"


@dataclass(frozen=True)
class Cell:
    """One crossing of the matrix."""

    point: str
    victim: Victim

    def __str__(self) -> str:
        return f"{self.point}/{self.victim.value}"


@dataclass(frozen=True)
class Same:
    """Not run by default: the same event as ``cell``, for this reason."""

    cell: Cell
    why: str


@dataclass(frozen=True)
class Nobody:
    """There is no such process at that point, for this reason."""

    why: str
