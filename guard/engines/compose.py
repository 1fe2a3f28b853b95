"""Which of an engine's containers is the one of a Compose service: told by the labels that Compose v2 gives them.

Source: https://github.com/docker/compose/blob/main/pkg/api/labels.go
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from guard.model import ComposeUnit

PIN_LABEL = "deployment-guard.pin"  # in the override file that guard writes, see playbooks/parts/project.py
ONE_ONLY = "guard looks after Compose services with one container per host; scale it to 1, or guard it by container:"
_GUARDS_OWN = re.compile(r"(.+)\.guard-(?:next|prev|spare)")  # see playbooks/parts/swap.py
_COMPOSES_OWN = re.compile(r"[0-9a-f]{12}_(.+)")  # the new one, while ``docker compose up`` replaces the old one


def filters(unit: ComposeUnit) -> str:
    """The engine's filter for a service's containers, those of ``docker compose run`` left out."""
    labels = {"project": unit.project, "service": unit.service, "oneoff": "False"}
    return json.dumps({"label": [f"com.docker.compose.{key}={value}" for key, value in labels.items()]})


def containers(listed: Sequence[Mapping[str, object]]) -> list[str]:
    """Names of the service's own containers, in order. What is only there during a swap, guard's own or Compose's,
    is left out."""
    names = sorted(_name(container) for container in listed)
    own = [name for name in names if name and not _GUARDS_OWN.fullmatch(name)]
    return [name for name in own if not ((new := _COMPOSES_OWN.fullmatch(name)) and new.group(1) in own)]


def _name(container: Mapping[str, object]) -> str:
    """Its own name; the others, with a second slash, are those that links gave it."""
    names = container.get("Names")
    listed = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return next((name[1:] for name in listed if name.count("/") == 1), "")
