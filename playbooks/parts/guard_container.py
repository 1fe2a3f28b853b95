"""Puts a container's image back, whole, in one task: looks, prepares, swaps, verifies, undoes itself.

Why one file without AnsibleModule: every further task is a round trip, and AnsiballZ plus module_utils cost each run
more than the swap itself. Ansible fills in the arguments as JSON text (``ARGUMENTS``). In a raw triple-quoted string
that is safe for any data: JSON escapes ``"`` and ``\\`` just as the raw string skips them, so it cannot end early.

The state of a swap is the engine's own: the names NAME, NAME.guard-next (the replacement, created, not started),
NAME.guard-prev (what ran before) and, for containers that remove themselves, NAME.guard-spare (a twin to go back to).
The journal on the host only adds what names cannot say (whose container is whose, its restart policy). A run that was
killed anywhere is finished by the next one with the same plan, see ``Swap.settle``.
"""

from __future__ import annotations

from .plan import read_plan
from .program import run_as_program
from .restore import restore_with
from .swap import Swap

ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""

DOCUMENTATION = r"""
module: guard_container
short_description: Put the previous image of a container back in one task
description: Talks to the Docker engine of the host. See the playbook folder's manifest for the whole.
options:
  mode: {type: str, required: true, choices: [snapshot, prepare, swap, discard]}
  plan: {type: dict, required: true, description: What to do on this host. Data only, never evaluated.}
"""


if __name__ == "__main__":
    run_as_program(ARGUMENTS, read_plan, restore_with(Swap))
