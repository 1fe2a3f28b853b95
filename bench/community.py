"""The community Docker modules, for the playbook that guard is compared with. No part of guard needs them.

The collection is not on every machine's Galaxy; PyPI's ``ansible`` package carries it. That wheel (54 MB) is fetched
once, the collection is taken out of it, and the rest is thrown away. On the hosts its modules need ``requests``.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from guard.demo.fleet import Fleet
from guard.demo.host import Host

CACHE = Path(__file__).parent / ".cache"
ON_HOSTS = "/opt/bench-python"  # in PYTHONPATH of the playbook's tasks only
_WHEEL = "ansible==12.3.0"
_COLLECTION = "ansible_collections/community/docker/"
_DONE = "MANIFEST.json"


def collections() -> Path:
    """The folder for ANSIBLE_COLLECTIONS_PATH; fetched when it is not there yet."""
    root = CACHE / "collections"
    if not (root / _COLLECTION / _DONE).exists():
        with tempfile.TemporaryDirectory(prefix="guard-bench-") as folder:
            _pip("download", "--no-deps", "--dest", folder, _WHEEL)
            with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                names = [name for name in wheel.namelist() if name.startswith(_COLLECTION)]
                for name in sorted(names, key=lambda name: name.endswith(_DONE)):
                    wheel.extract(name, root)
    return root


def version() -> str:
    manifest = json.loads((collections() / _COLLECTION / _DONE).read_text())
    return str(manifest["collection_info"]["version"])


def equip(fleet: Fleet) -> None:
    """Lay what the modules import on every host, beside the system's Python and not into it."""
    packages = CACHE / "host-python"
    if not (packages / "requests").exists():
        _pip("install", "--platform", "any", "--only-binary=:all:", "--target", str(packages), "requests")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.add(packages, ".")
    content = out.getvalue()

    def lay(host: Host) -> None:
        host.exec(["mkdir", "-p", ON_HOSTS])
        host.exec(["tar", "-x", "-C", ON_HOSTS], given=content)

    fleet.each(lay)


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True, timeout=600)
