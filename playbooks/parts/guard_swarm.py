"""Puts a Swarm service's image back, on a manager, in one task: looks, updates, waits, undoes itself.

One file without AnsibleModule, its arguments filled in as JSON text: see guard_container, with which it shares that.

The state of an update is the swarm's own: the service's spec (which image is wanted), its update status and its tasks.
The journal on the manager only adds what they cannot say: what the spec was before, and which run changed it. A run
that was killed anywhere is finished by the next one with the same plan, see ``Update.settle``.
"""

from __future__ import annotations

from .accept import IMAGE_ID, text
from .plan import A_NAME, OPTIONAL, read_plan
from .program import run_as_program
from .restore import restore_with
from .update import Update

ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""

DOCUMENTATION = r"""
module: guard_swarm
short_description: Put the previous image of a Swarm service back in one task
description: Talks to the Docker engine of a manager. See the playbook folder's manifest for the whole.
options:
  mode: {type: str, required: true, choices: [snapshot, prepare, swap, discard]}
  plan: {type: dict, required: true, description: What to do. Data only, never evaluated.}
"""


def swarm_service(value):
    if not isinstance(value, dict) or set(value) != {"service"}:
        raise ValueError("must be a mapping of service")
    return {"service": A_NAME(value["service"])}


def expected_id(value):
    """An image ID, or "" for a spec whose image no manager knows (a deploy of an image that does not exist)."""
    return None if value == "" else text(IMAGE_ID, "sha256:<64 hex digits>")(value)


def read_swarm_plan(arguments):
    """As for a container; ``swarm.service`` is the service's name, else ``container`` is."""
    mode, plan = read_plan(arguments, dict(OPTIONAL, swarm=(swarm_service, None), expect_image_id=(expected_id, None)))
    if plan["swarm"]:
        plan["container"] = plan["swarm"]["service"]
    return mode, plan


if __name__ == "__main__":
    run_as_program(ARGUMENTS, read_swarm_plan, restore_with(Update))
