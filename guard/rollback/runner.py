"""The only place that knows ansible-runner. Used inside the shim's process and nowhere else.

What ansible-runner does by itself, and what is done about it here:

- it copies its process's whole environment into the run and its artifacts: the shim's environment is minimal already;
- it turns host key checking off unless the variable is set: it is set;
- it writes every event, unmasked, to files: they go to the scratch folder, which is removed, and guard writes its own;
- it drops ``settings`` when env files are suppressed: they are given as the file it reads;
- it replaces the SIGTERM handler from the main thread: not when it is given a cancel callback;
- its time-outs use the wall clock and end only the main process group: neither they nor its cancel are used, the shim
  ends all descendants on the monotonic clock.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from guard.rollback import workdir
from guard.rollback.workdir import Asked

_KEPT = ("HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "KRB5CCNAME", "TZ", "TMPDIR", "COVERAGE_PROCESS_START")
MARK = "GUARD_RUN"  # in the environment of every process of a run: strays of a vanished shim are found by it


def environment(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a shim and of Ansible. The interpreter's own ``bin`` comes first in PATH."""
    kept = {name: environ[name] for name in _KEPT if name in environ}
    rest = environ.get("PATH") or "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}:{rest}",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_CONFIG": str(folder / workdir.CONFIG),
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        MARK: str(folder),
    }


def load() -> None:
    """Import ansible-runner ahead of its use, and take a pause out of it.

    After a child's terminal is closed, ptyprocess sleeps 0.1 s before it looks whether the child has ended, and
    ansible-runner closes it only when it has. That is a seventh of a short run.
    """
    import ansible_runner  # noqa: F401
    import pexpect  # type: ignore[import-untyped]

    class Spawn(pexpect.spawn):  # type: ignore[misc]
        def _spawnpty(self, args: list[str], **options: object) -> object:
            process = super()._spawnpty(args, **options)
            process.delayafterclose = 0.002
            return process

    pexpect.spawn = Spawn


def play(folder: Path, asked: Asked, on_event: Callable[[Mapping[str, object]], None]) -> int | None:
    """Run the playbook to its end; events come in order, with ansible-runner's keys. Returns the exit code.

    The exit code is None when Ansible was ended by a signal. What ``on_event`` raises, except OSError (which
    ansible-runner swallows), comes out here.
    """
    import ansible_runner

    def handle(event: dict[str, object]) -> bool:
        on_event(event)
        return False  # ansible-runner keeps no copy

    settings = asked.scratch / "env" / "settings"
    settings.parent.mkdir(mode=0o700)
    workdir.write(settings, json.dumps({"suppress_output_file": True, "suppress_ansible_output": True}))
    options = ["-e", f"@{folder / workdir.VARS}", *(["--check", "--diff"] if asked.check else [])]
    runner = ansible_runner.run(
        private_data_dir=str(asked.scratch),
        ident="run",
        project_dir=str(folder / workdir.PLAYBOOK),
        playbook=str(folder / workdir.PLAYBOOK / asked.entry),
        inventory=str(folder / workdir.INVENTORY),
        cmdline=shlex.join(options),
        event_handler=handle,
        cancel_callback=lambda: False,
        fact_cache_type="memory",
        suppress_env_files=True,
        quiet=True,
    )
    return runner.rc if isinstance(runner.rc, int) else None
