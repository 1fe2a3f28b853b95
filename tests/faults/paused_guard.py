"""The real guard, made to wait at one of its own durable phases: ``python paused_guard.py POINT MARK ARGUMENT…``.

``MARK`` is made when the point is reached, that is when its line is in the store (or its file in the run's folder); then
this process does nothing more until it is killed, or until the mark is removed. ``$LEASE_S`` shortens its leases.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from guard.cli import main
from guard.rollback import run, workdir
from guard.service import leases
from guard.store.journal import SqlJournal


def pausing(point: str, mark: Path) -> None:
    def wait() -> None:
        if not mark.exists() and not mark.with_suffix(".gone").exists():
            mark.touch()
            while mark.exists():
                time.sleep(0.01)
            mark.with_suffix(".gone").touch()

    def after(owner: Any, name: str, fits: Callable[..., bool] = lambda *_: True) -> None:
        real = getattr(owner, name)

        @wraps(real)
        def then_wait(*args: Any, **named: Any) -> Any:
            result = real(*args, **named)
            if fits(*args):
                wait()
            return result

        setattr(owner, name, then_wait)

    who, _, what = point.partition(":")
    if who == "guard" and what == "decided":
        after(SqlJournal, "begin_rollback")
    elif who == "guard" and what in ("ended", "reverted"):
        after(SqlJournal, "end_rollback")
    elif who == "guard":
        after(SqlJournal, "set_phase", lambda _self, _id, phase, *_: phase.value == what)
    elif what == workdir.RUN:
        after(workdir, "fill")
    elif what == workdir.RESULT:
        after(run, "_result", lambda folder: (folder / workdir.RESULT).exists())


if __name__ == "__main__":
    leases.TTL_S = float(os.environ.get("LEASE_S", leases.TTL_S))
    pausing(sys.argv[1], Path(sys.argv[2]))
    sys.argv = ["guard", *sys.argv[3:]]
    main()
