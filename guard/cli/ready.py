"""``guard ready``: could each host be rolled back right now, and to what?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from guard.cli.complete import service_names
from guard.cli.options import Options, common_options
from guard.cli.running import say, until, with_session

if TYPE_CHECKING:
    from guard.service.session import Session
    from guard.service.stop import Stop

CANNOT = 4


@click.command()
@click.argument("services", nargs=-1, required=True, shell_complete=service_names)
@common_options
def ready(options: Options, services: tuple[str, ...]) -> int:
    """Could each host be rolled back right now, and to what? Exit code: 0 every host, 4 some host can't."""
    from guard.report.text import image_text, table
    from guard.service.ready import document, notes, readiness

    async def work(session: Session, stop: Stop) -> int:
        found = {bound.name: await until(readiness(session, bound), stop) for bound in session.bind(services)}
        lines, ok = [], True
        for name, hosts in found.items():
            all_ready = all(host.ready for host in hosts.values())
            ok = ok and all_ready
            lines.append(f"{name}: {'ready' if all_ready else 'NOT READY'}")
            rows = [
                [host, "ready" if one.ready else "NOT READY", "; ".join(one.problems) or f"to {image_text(one.to)}"]
                for host, one in sorted(hosts.items())
            ]
            lines.extend(table(rows, "  "))
            lines.extend(notes(hosts))
        say(options, document(found), lines)
        return 0 if ok else CANNOT

    return with_session(options, work, read_only=True)
