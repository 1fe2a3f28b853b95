"""``guard validate``: everything that can be known to be wrong without touching a host."""

from __future__ import annotations

import os

import click

from guard.cli.options import Options, common_options
from guard.cli.running import say
from guard.errors import ConfigError, GuardError


@click.command()
@common_options
def validate(options: Options) -> None:
    """Check configuration, inventory patterns, playbook versions and digests. No host is touched.

    Exit code: 0 all right, 2 something is wrong.
    """
    from guard.config.substitute import render, render_unit
    from guard.model import Host
    from guard.rollback.hooks import read_hooks
    from guard.service.session import local_host
    from guard.wiring import catalog, inventory, load_config

    config = load_config(options.config, os.environ)
    hosts_of, playbooks, problems = inventory(config, os.environ), catalog(config), []
    services, counted = [], []
    for service in config.services:
        hosts: tuple[Host, ...] = ()
        try:
            hosts = hosts_of.hosts(service.hosts) if service.hosts is not None else (local_host(),)
            for host in hosts:
                render_unit(service.unit, host, what=f"service {service.name}")
                for check in service.checks:
                    for template in check.templates() if check.per_host else ():
                        render(template, host, what=f"service {service.name}: check {check.name}")
            playbooks.resolve(service.rollback.playbook)
            read_hooks(service.name, {"before": service.rollback.hooks.before, "after": service.rollback.hooks.after})
        except GuardError as error:
            problems.append(str(error))
        services.append(
            {
                "name": service.name,
                "critical": service.critical,
                "hosts": [host.name for host in hosts],
                "checks": [check.name for check in service.checks],
                "playbook": service.rollback.playbook,
            }
        )
        counted.append((service.name, len(hosts), len(service.checks), service.rollback.playbook))
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    source = str(config.source) if config.source is not None else "the built-in set"
    lines = [f"{source}: valid"]
    lines += [f"  warning: {warning}" for warning in config.warnings]
    lines += [f"  {name}: {hosts} hosts, {checks} checks, {playbook}" for name, hosts, checks, playbook in counted]
    document = {"valid": True, "source": source, "services": services, "warnings": list(config.warnings)}
    say(options, document, lines)
