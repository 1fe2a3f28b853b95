"""The real ``guard`` command, as a test runs it. In a test: ``from guard_command import Guard, Ran``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

GUARD = Path(sys.executable).with_name("guard")

# A gate over this sees a bad release within a second, and a release is judged by what it answers, three times.
CONFIG: dict[str, Any] = {
    "defaults": {"interval": "300ms", "timeout": "1s", "failure_threshold": 3, "warning_threshold": 2},
    "services": [
        {
            "name": "web",
            "hosts": "web",
            "container": "web",
            "rollback": {"playbook": "container@1", "verify_for": "1s", "min_gap": "0s"},
            "checks": [
                {
                    "type": "http",
                    "url": "http://{{ ansible_host }}:8080/healthz",
                    "expect": {"status": 200, "json": {"status": "ok"}},
                },
                {"type": "docker"},
            ],
        }
    ],
}


@dataclass(frozen=True)
class Ran:
    """A guard command that has ended."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def json(self) -> Any:
        """stdout, which must be exactly one JSON document."""
        return json.loads(self.stdout)

    def __str__(self) -> str:
        return f"$ {' '.join(self.argv)}\nexit {self.code} after {self.seconds:.1f} s\n{self.stdout}\n{self.stderr}"


class Guard:
    """Runs the guard command with a configuration, a state folder and an environment of the test's own."""

    def __init__(self, folder: Path, inventory: Path) -> None:
        self.folder = folder
        self.inventory = inventory
        self.config = folder / "guard.yml"
        self.state = folder / "state"
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}
        self._running: list[subprocess.Popen[str]] = []
        self.configure(CONFIG)

    def configure(self, config: Mapping[str, Any] | str) -> None:
        """Replace the configuration: the text of a file, or settings to which the fleet's inventory is added."""
        if not isinstance(config, str):
            config = yaml.safe_dump({"inventory": str(self.inventory), **config}, sort_keys=False)
        self.config.write_text(config)

    def __call__(self, *args: str, timeout: float = 60.0, env: Mapping[str, str] | None = None) -> Ran:
        """Run to the end. Longer than ``timeout`` seconds is a failure of the test, with all that was written."""
        began = time.monotonic()
        process = self.start(*args, env=env)
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            stdout, stderr = process.communicate()
            pytest.fail(f"guard {' '.join(args)} still ran after {timeout} s\n{stdout}\n{stderr}")
        return Ran(("guard", *args), process.returncode, stdout, stderr, time.monotonic() - began)

    def json(self, *args: str, timeout: float = 60.0, env: Mapping[str, str] | None = None) -> Ran:
        """The same with ``--output json``; see ``Ran.json``."""
        return self(*args, "--output", "json", timeout=timeout, env=env)

    def start(
        self, *args: str, env: Mapping[str, str] | None = None, program: Sequence[str] = (str(GUARD),)
    ) -> subprocess.Popen[str]:
        """Start without waiting; what still runs when the test ends is killed, with its process group."""
        process = subprocess.Popen(
            [*program, *args],
            cwd=self.folder,
            env={
                **self.environment,
                "GUARD_CONFIG": str(self.config),
                "GUARD_STATE_DIR": str(self.state),
                **(env or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._running.append(process)
        return process

    def close(self) -> None:
        for process in self._running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
