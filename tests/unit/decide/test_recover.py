"""What a crashed rollback's record takes over from before, and from what is seen now."""

from __future__ import annotations

from dataclasses import replace

from guard.decide.recover import PINNED, observed
from guard.model import HostFacts, HostPlan, HostResult, HostState, Image
from tests.fakes import container_facts

GOOD, BAD = Image("web:1.0.0", "sha256:" + "1" * 64), Image("web:1.1.0", "sha256:" + "2" * 64)
PLAN = HostPlan("web1", "shop-web-1", BAD, GOOD)


def facts(image: Image, pin: str = "") -> HostFacts:
    return HostFacts("web1", "shop-web-1", container_facts(image=image, pin=pin))


def test_a_host_that_was_restored_before_the_crash_still_tells_of_its_pin() -> None:
    known = HostResult("web1", HostState.RESTORED, BAD, GOOD, notice="compose.override.yml pins web")
    assert observed(PLAN, facts(GOOD, "rb-1"), known) == known
    lost = observed(PLAN, facts(GOOD, "rb-1"), None)
    assert (lost.state, lost.notice) == (HostState.RESTORED, PINNED)
    assert observed(PLAN, facts(GOOD), None).notice is None


def test_an_earlier_pin_is_not_this_rollbacks_notice() -> None:
    assert observed(PLAN, facts(BAD, "rb-0"), None) == replace(
        HostResult("web1", HostState.PLANNED, BAD, GOOD), notice=None
    )
