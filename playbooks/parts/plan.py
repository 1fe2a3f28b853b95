"""The plan of a module: which keys each mode takes."""

from __future__ import annotations

from .accept import BACKUP_TAG, IMAGE_ID, NAME, engine_address, flag, folder, number, target_image, text
from .problems import Problem

A_NAME = text(NAME, "a name of letters, digits, '_', '.' and '-'")
ALWAYS = {"service": A_NAME, "container": A_NAME, "run_id": A_NAME}
FOR_CHANGES = {"fence": number(int, 0, 2**63), "target": target_image}
FOR_TAGGING = {"backup_tag": text(BACKUP_TAG, "backup_YYYYMMDD_HHMMSS")}
OPTIONAL = {
    "engine": (engine_address, None),
    "state_dir": (folder, None),
    "expect_image_id": (text(IMAGE_ID, "sha256:<64 hex digits>"), None),
    "health_timeout_s": (number(float, 0.1, 86400), 60),
    "stable_s": (number(float, 0, 3600), 1.0),
    "stop_timeout_s": (number(int, 0, 86400), None),
    "force": (flag, False),
    "wait_healthy": (flag, True),
}
REQUIRED = {
    "snapshot": ALWAYS,
    "prepare": dict(ALWAYS, **dict(FOR_CHANGES, **FOR_TAGGING)),
    "swap": dict(ALWAYS, **dict(FOR_CHANGES, **FOR_TAGGING)),
    "discard": dict(ALWAYS, fence=FOR_CHANGES["fence"]),
}


def read_plan(arguments, optional=OPTIONAL):
    """Check everything before anything is touched: returns (mode, plan) or raises Problem("plan")."""
    given = {key: value for key, value in arguments.items() if not key.startswith("_ansible_")}
    mode, plan = given.pop("mode", None), given.pop("plan", None)
    if mode not in REQUIRED or given or not isinstance(plan, dict):
        raise Problem(
            "plan", "the module takes mode ({}) and plan (a mapping), nothing else".format("|".join(REQUIRED))
        )
    required = REQUIRED[mode]
    allowed = dict({key: accept for key, (accept, _) in optional.items()}, **dict(FOR_CHANGES, **FOR_TAGGING), **ALWAYS)
    for key in plan:
        if key not in allowed:
            raise Problem("plan", f"plan.{key} is not known to this playbook version")
    accepted = {key: default for key, (_, default) in optional.items()}
    for key, accept in allowed.items():
        if plan.get(key) is None:
            if key in required:
                raise Problem("plan", f"plan.{key} is missing (needed for {mode})")
            continue
        try:
            accepted[key] = accept(plan[key])
        except ValueError as wrong:
            raise Problem("plan", f"plan.{key} {wrong}") from wrong
    return mode, accepted
