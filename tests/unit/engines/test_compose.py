"""Which containers are a Compose service's own."""

from __future__ import annotations

import json

import pytest

from guard.engines.compose import containers, filters
from guard.model import ComposeUnit

CASES = [
    ((), []),
    (("/shop-web-1",), ["shop-web-1"]),
    (("/shop-web-2", "/shop-web-1"), ["shop-web-1", "shop-web-2"]),
    (("/shop-web-1", "/shop-web-1.guard-next"), ["shop-web-1"]),
    (("/shop-web-1.guard-next", "/shop-web-1.guard-prev", "/shop-web-1.guard-spare"), []),  # a swap, cut in the middle
    (("/0123456789ab_shop-web-1", "/shop-web-1"), ["shop-web-1"]),
    (("/0123456789ab_shop-web-1",), ["0123456789ab_shop-web-1"]),  # Compose was cut after it had removed the old one
]


@pytest.mark.parametrize(("names", "expected"), CASES)
def test_what_is_only_there_during_a_swap_is_left_out(names: tuple[str, ...], expected: list[str]) -> None:
    assert containers([{"Names": [name]} for name in names]) == expected


def test_a_name_given_by_a_link_is_not_its_own() -> None:
    assert containers([{"Names": ["/proxy/web", "/shop-web-1"]}]) == ["shop-web-1"]


def test_what_is_no_name_is_no_container() -> None:
    assert containers([{}, {"Names": None}, {"Names": [7]}]) == []


def test_the_engine_is_asked_by_labels() -> None:
    assert json.loads(filters(ComposeUnit("shop", "web"))) == {
        "label": [
            "com.docker.compose.project=shop",
            "com.docker.compose.service=web",
            "com.docker.compose.oneoff=False",
        ]
    }
