"""A web service that answers a thousand requests a second: the demo's image forks a shell for each of them."""

from __future__ import annotations

import io
import tarfile

from guard.demo.fleet import Fleet
from guard.demo.image import static_busybox

# The shell is pid 1, for httpd has no handler for SIGTERM and pid 1 ignores what it does not handle.
# $LISTEN: the address and port to listen on, for containers without a network of their own.
_ENTRY = "trap 'exit 0' TERM; /bin/busybox httpd -f -p ${LISTEN:-8080} -h /www & wait"


def load(fleet: Fleet, *versions: str) -> None:
    """``web:VERSION`` on every host, the same image ID everywhere; each answers ``{"status":"ok"}``."""
    first = fleet.hosts[0]
    for version in versions:
        reference = f"web:{version}"
        cmd = f'CMD ["/bin/busybox", "sh", "-c", "{_ENTRY}"]'
        first.docker("import", "--change", cmd, "--change", "EXPOSE 8080", "-", reference, input=_root(version))
        archive = fleet.folder / f"bench-{version}.tar"
        first.docker("save", "--output", str(archive), reference)
        content = archive.read_bytes()
        archive.unlink()
        engines = {host.docker_socket: host for host in reversed(fleet.hosts)}
        engines.pop(first.docker_socket)
        fleet.each(lambda host, content=content: host.load(content), engines.values())


def _root(version: str) -> bytes:
    files = {
        "bin/busybox": static_busybox().read_bytes(),
        "www/healthz": b'{"status":"ok"}',
        "version": version.encode(),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()
