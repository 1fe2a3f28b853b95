"""Puts the image of a Compose service back: the swap of its container, and a pin in its project.

The container is swapped as guard_container does it (see there, and ``Swap``); what is added is that the next
``docker compose up`` of the project keeps what was restored (see ``Project``).
"""

from __future__ import annotations

from .compose import ComposeSwap
from .plan import OPTIONAL, read_plan
from .problems import Problem
from .program import run_as_program
from .project import compose_unit
from .restore import restore_with

ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""

DOCUMENTATION = r"""
module: guard_compose
short_description: Put the previous image of a Compose service back in one task
description: Talks to the Docker engine of the host. See the playbook folder's manifest for the whole.
options:
  mode: {type: str, required: true, choices: [snapshot, prepare, swap, discard]}
  plan: {type: dict, required: true, description: What to do on this host. Data only, never evaluated.}
"""


def read(arguments):
    """The plan of guard_container, and which service of which project the container is."""
    mode, plan = read_plan(arguments, dict(OPTIONAL, compose=(compose_unit, None)))
    if plan["compose"] is None:
        raise Problem("plan", "plan.compose is missing")
    return mode, plan


if __name__ == "__main__":
    run_as_program(ARGUMENTS, read, restore_with(ComposeSwap))
