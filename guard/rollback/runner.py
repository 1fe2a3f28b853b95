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
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from guard.rollback import workdir
from guard.rollback.workdir import Asked

_KEPT = ("HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "KRB5CCNAME", "TZ", "TMPDIR", "COVERAGE_PROCESS_START")
MARK = "GUARD_RUN"  # in the environment of every process of a run: strays of a vanished shim are found by it


def environment(scratch: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a shim and of Ansible. The interpreter's own ``bin`` comes first in PATH."""
    kept = {name: environ[name] for name in _KEPT if name in environ}
    rest = environ.get("PATH") or "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}:{rest}",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_CONFIG": str(scratch / workdir.CONFIG),
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        MARK: str(scratch),
    }


class Loaded:
    """ansible-playbook, started and waiting for its command line; ``play`` gives it one. Made once per process.

    ansible-runner knows only commands that start when it runs them. It is handed the terminal of the one that waits.
    """

    def __init__(self, scratch: Path) -> None:
        import ansible_runner
        import pexpect  # type: ignore[import-untyped]
        import ptyprocess  # type: ignore[import-untyped]

        settings = scratch / "env" / "settings"
        settings.parent.mkdir(mode=0o700)
        workdir.write(settings, json.dumps({"suppress_output_file": True, "suppress_ansible_output": True}))
        self._go = scratch / "go"
        self._on_event: Callable[[Mapping[str, object]], None] = lambda _: None
        self._runner = ansible_runner.interface.init_runner(
            private_data_dir=str(scratch),
            ident="run",
            playbook="see go",
            event_handler=self._handle,
            cancel_callback=lambda: False,
            fact_cache_type="memory",
            suppress_env_files=True,
            quiet=True,
        )
        config = self._runner.config
        launch = [
            sys.executable,
            "-P",
            "-m",
            "guard.rollback.launch",
            str(self._go),
            str(os.getpid()),
            "ansible-playbook",
        ]
        process = ptyprocess.PtyProcess.spawn(
            launch, cwd=str(scratch), env=config.env, echo=False, preexec_fn=_as_a_child
        )
        # After a child's terminal is closed, ptyprocess sleeps 0.1 s before it looks whether the child has ended, and
        # ansible-runner closes it only when it has. That is a seventh of a short run.
        process.delayafterclose = 0.002

        class Spawn(pexpect.spawn):  # type: ignore[misc]
            def _spawnpty(self, *_: object, **__: object) -> object:
                return process

        pexpect.spawn = Spawn

    def _handle(self, event: dict[str, object]) -> bool:
        self._on_event(event)
        return False  # ansible-runner keeps no copy

    def play(self, folder: Path, asked: Asked, on_event: Callable[[Mapping[str, object]], None]) -> int | None:
        """Run the playbook to its end; events come in order, with ansible-runner's keys. Returns the exit code.

        The exit code is None when Ansible was ended by a signal. What ``on_event`` raises, except OSError (which
        ansible-runner swallows), comes out here.
        """
        self._on_event = on_event
        check = ["--check", "--diff"] if asked.check else []
        files = ["-e", f"@{folder / workdir.VARS}", "-i", str(folder / workdir.INVENTORY)]
        playbook = str(folder / workdir.PLAYBOOK / asked.entry)
        command = ["ansible-playbook", *check, *files, "--forks", str(asked.forks), playbook]
        workdir.write(self._go.with_suffix(".new"), json.dumps(command))
        self._go.with_suffix(".new").rename(self._go)
        self._runner.run()
        return self._runner.rc if isinstance(self._runner.rc, int) else None


def _as_a_child() -> None:
    """The shim's own signals are not Ansible's: it can be ended, and no terminal hangs it up or interrupts it."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
