"""What a module is as a program: arguments in as JSON, one result out, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from .accept import engine_address
from .engine import DEFAULT_ENGINE, Engine
from .memory import folder_name
from .problems import EngineGone, Problem

ENGINE_RETURN_S = 20.0  # how long a swap waits for an engine that went away under it


def survive_hangups():
    """A swap is not left half done because a connection ended or somebody pressed Ctrl-C: it takes seconds."""
    for number_ in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number_, signal.SIG_IGN)


def engine_of(plan):
    engine = Engine(plan["engine"] or os.environ.get("DOCKER_HOST") or DEFAULT_ENGINE)
    engine_address(engine.address)
    return engine


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


def result_of(arguments, read, work):
    """Arguments in, result out: the only place where a failure becomes a result."""
    plan, failed = {}, {"changed": False, "state": "failed", "steps": [], "log_tail": None}
    try:
        mode, plan = read(arguments)
        result = work(mode, plan, bool(arguments.get("_ansible_check_mode")))
    except Problem as problem:
        result = dict(failed, error=str(problem), kind=problem.kind)
        if plan.get("target"):
            result["to"] = {"image": plan["target"]["image"], "image_id": plan["target"]["image_id"]}
    except OSError as wrong:  # lock, fence or journal; a swap that is under way does without them
        where = folder_name(plan.get("state_dir"))
        result = dict(failed, error=f"guard's folder {where} can't be used: {wrong}", kind="state")
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


def run_as_program(text_, read, work):
    """``read``: arguments → (mode, plan). ``work``: mode, plan, check mode → result. Both raise Problem."""
    result = result_of(json.loads(text_), read, work)
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    sys.exit(1 if result.get("failed") else 0)
