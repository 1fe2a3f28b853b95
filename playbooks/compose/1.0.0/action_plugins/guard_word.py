# SPDX-License-Identifier: Apache-2.0
"""Waits on the control node for guard's word: ``go`` or ``disarm``, one line of JSON in a named pipe.

guard alone has the pipe open for writing, so its end of file says that guard has died, and that means ``disarm``, as
does anything that is not a word and a wait that took too long. A word that came before the waiting began is still in
the pipe. With ``go`` comes a mapping of values for every host's plan that are only known now (the fence number).
"""

from __future__ import annotations

import json
import os
import select
import time

from ansible.plugins.action import ActionBase

LONGEST_WORD = 4096  # bytes; a pipe takes as many at once or not at all


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        """``{"word": "go"|"disarm", "plan": {…}, "why": TEXT}``; never fails, for then nothing would be taken back."""
        result = super().run(tmp, task_vars)
        pipe, longest_s = str(self._task.args["pipe"]), float(self._task.args["longest_s"])
        try:
            word, plan, why = understood(heard(pipe, time.monotonic() + longest_s))
        except (OSError, ValueError) as wrong:
            word, plan, why = "disarm", {}, str(wrong)
        result.update(changed=False, word=word, plan=plan, why=why)
        return result


def heard(pipe, until):
    """One line from the pipe. ValueError: nobody writes there (any more), or nobody said a word in time."""
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        line = b""
        while b"\n" not in line:
            if len(line) > LONGEST_WORD:
                raise ValueError("more was said than a word")
            try:
                said = os.read(descriptor, LONGEST_WORD)
            except BlockingIOError:
                left = until - time.monotonic()
                if left <= 0:
                    raise ValueError("no word came in time") from None
                select.select([descriptor], [], [], left)
                continue
            if not said:
                raise ValueError("guard has gone without a word")
            line += said
        return line.partition(b"\n")[0]
    finally:
        os.close(descriptor)


def understood(line):
    """(word, plan, ""). ValueError when it is not a word."""
    said = json.loads(line)
    if not isinstance(said, dict) or said.get("word") not in ("go", "disarm"):
        raise ValueError("that was no word")
    plan = said.get("plan", {})
    if not isinstance(plan, dict):
        raise ValueError("a plan's values must be a mapping")
    return said["word"], plan, ""
