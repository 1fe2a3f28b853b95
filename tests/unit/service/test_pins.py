from __future__ import annotations

from guard.model import HostFacts
from guard.service.pins import told
from tests.fakes import container_facts


def facts(host: str, pin: str) -> HostFacts:
    return HostFacts(host, "shop-web-1", container_facts(pin=pin))


def test_hosts_that_no_deploy_has_changed_since_a_rollback_are_named() -> None:
    seen = {
        name: facts(name, pin) for name, pin in {"web2": "rb-1", "web1": "rb-1", "web3": "rb-2", "web4": ""}.items()
    }
    first, second = told("web", seen)
    assert "web on web1, web2 since rollback rb-1" in first
    assert "web on web3 since rollback rb-2" in second


def test_without_a_pin_or_a_container_there_is_nothing_to_tell() -> None:
    assert told("web", {"web1": facts("web1", ""), "web2": HostFacts("web2", "shop/web", problem="away")}) == ()
