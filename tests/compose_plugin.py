"""The real Compose v2 plug-in of the development packages, put where a docker command finds it."""

from __future__ import annotations

import sys
from pathlib import Path

PLUGIN = Path(sys.executable).with_name("docker-compose")


def place(docker_config: Path) -> None:
    """``docker compose`` works wherever DOCKER_CONFIG (or HOME/.docker) is this folder."""
    plugins = docker_config / "cli-plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    (plugins / PLUGIN.name).unlink(missing_ok=True)
    (plugins / PLUGIN.name).symlink_to(PLUGIN)
