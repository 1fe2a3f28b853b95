"""One mode of a restore on this host: the lock and the fence first, then the work, past an engine that goes away or refuses."""

from __future__ import annotations

import time

from .memory import Memory
from .problems import EngineGone
from .program import engine_of, survive_hangups, wait_for

PAUSES_S = (0.1, 1.0)  # a swap that an engine broke off half way is looked at afresh and brought to an end, so often


def restore_with(swap):
    """The work of a module (see ``run_as_program``) whose swap is of the class ``swap``."""

    def work(mode, plan, check_mode):
        """One mode on this host: the result. Problem when nothing was changed (or the engine is gone for good)."""
        engine = engine_of(plan)
        if mode == "snapshot":
            return swap(engine, None, plan, check_mode).snapshot()
        engine.negotiate()
        with Memory(plan, engine.address, check_mode) as memory:
            if mode != "discard":  # which asks for itself: it may always take back what is its own
                memory.refuse_older()
            task = swap(engine, memory, plan, check_mode)
            if mode != "swap":
                return getattr(task, mode)()
            if not check_mode:
                survive_hangups()
            for pause in PAUSES_S:
                try:
                    return task.swap()
                except swap.BROKEN_OFF_BY as broken:
                    if memory.facts.get("phase") not in ("swapping", "undoing"):
                        raise
                    if isinstance(broken, EngineGone):
                        wait_for(engine)
                    time.sleep(pause)
            return task.swap()

    return work
