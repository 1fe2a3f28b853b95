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

import json
import os
import signal
import sys
import time

from .accept import engine_address
from .engine import DEFAULT_ENGINE, Engine
from .memory import Memory, folder_name
from .plan import read_plan
from .problems import EngineGone, Problem
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

ENGINE_RETURN_S = 20.0  # how long a swap waits for an engine that went away under it


def survive_hangups():
    """A swap is not left half done because a connection ended or somebody pressed Ctrl-C: it takes seconds."""
    for number_ in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number_, signal.SIG_IGN)


def work(mode, plan, check_mode):
    """One mode on this host: the result. Problem when nothing was changed (or the engine is gone for good)."""
    engine = Engine(plan["engine"] or os.environ.get("DOCKER_HOST") or DEFAULT_ENGINE)
    engine_address(engine.address)
    if mode == "snapshot":
        return Swap(engine, None, plan, check_mode).snapshot()
    engine.negotiate()
    with Memory(plan, engine.address, check_mode) as memory:
        memory.refuse_older()
        task = Swap(engine, memory, plan, check_mode)
        if mode != "swap":
            return getattr(task, mode)()
        if not check_mode:
            survive_hangups()
        try:
            return task.swap()
        except EngineGone:
            if memory.facts.get("phase") not in ("swapping", "undoing"):
                raise
            wait_for(engine)
            return task.swap()


def wait_for(engine):
    """Until the engine answers again, at most ENGINE_RETURN_S."""
    until = time.monotonic() + ENGINE_RETURN_S
    while True:
        try:
            return engine.negotiate()
        except EngineGone:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def run(arguments):
    """Arguments in, result out: the only place where a failure becomes a result."""
    plan, failed = {}, {"changed": False, "state": "failed", "steps": [], "log_tail": None}
    try:
        mode, plan = read_plan(arguments)
        result = work(mode, plan, bool(arguments.get("_ansible_check_mode")))
    except Problem as problem:
        result = dict(failed, error=str(problem), kind=problem.kind)
        if plan.get("target"):
            result["to"] = {"image": plan["target"]["image"], "image_id": plan["target"]["image_id"]}
    except OSError as wrong:  # lock, fence or journal; a swap that is under way does without them
        result = dict(
            failed, error=f"guard's folder {folder_name(plan.get('state_dir'))} can't be used: {wrong}", kind="state"
        )
    except Exception as unexpected:  # the last resort: without a result guard would know nothing about this host
        import traceback

        result = dict(failed, error=f"unexpected: {unexpected!r}", kind="unexpected", exception=traceback.format_exc())
    for key in ("from", "to", "backup_tag", "downtime_s", "error", "container_id"):
        result.setdefault(key, None)
    if result["state"] in ("failed", "reverted"):
        result.update(failed=True, msg=result["error"])
    if arguments.get("_ansible_diff") and result["from"] and result["to"]:
        shown = ["".join("{}: {}\n".format(*pair) for pair in sorted(result[key].items())) for key in ("from", "to")]
        result["diff"] = {
            "before_header": plan["container"],
            "after_header": plan["container"],
            "before": shown[0],
            "after": shown[1],
        }
    return result


def main():
    result = run(json.loads(ARGUMENTS))
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    sys.exit(1 if result.get("failed") else 0)


if __name__ == "__main__":
    main()
