"""The one place that turns errors into exit codes: bad input never shows a traceback."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise

import click

from guard.errors import GuardError

UNEXPECTED = 1
INTERRUPTED = 130


def run(command: click.Command, arguments: Sequence[str]) -> int:
    """Run a command and return the exit code of CONTRACT §3. A command returns its own code, or None for 0."""
    as_json = _wants_json(arguments)
    try:
        code = command.main(list(arguments) or ["--help"], prog_name="guard", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.Abort:
        return _say("interrupted", None, INTERRUPTED, as_json)
    except KeyboardInterrupt:
        return _say("interrupted", None, INTERRUPTED, as_json)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"{context.command_path} --help" if isinstance(context, click.Context) else None
        return _say(error.format_message(), hint, error.exit_code, as_json)
    except GuardError as error:
        return _say(error.message, error.hint, error.exit_code, as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader went away: nothing more to say
        return UNEXPECTED
    except Exception as error:  # noqa: BLE001 - the outermost border: said in full, with the code for "unexpected"
        if "--verbose" in arguments or "-v" in arguments:
            traceback.print_exc()
        what = f"unexpected error: {type(error).__name__}: {error}"
        return _say(what, "run it again with --verbose for the traceback, and please report it", UNEXPECTED, as_json)


def _wants_json(arguments: Sequence[str]) -> bool:
    return "--output=json" in arguments or ("--output", "json") in pairwise(arguments)


def _say(message: str, hint: str | None, code: int, as_json: bool) -> int:
    print(f"guard: {message}" + (f"\n  {hint}" if hint else ""), file=sys.stderr)
    if as_json:
        print(json.dumps({"error": message, "hint": hint, "exit_code": code}))
    return code
