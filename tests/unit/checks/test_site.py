"""By which names a release may call itself."""

from __future__ import annotations

import pytest

from guard.checks.site import release_names
from guard.model import Image

ID = "sha256:" + "0123456789ab" + "c" * 52
SHORT = "0123456789ab"

NAMES: dict[str, tuple[Image, tuple[str, ...]]] = {
    "a tag": (Image("shop/web:1.4.2", ID), ("1.4.2", SHORT)),
    "a registry with a port": (Image("localhost:5000/shop/web:v2", ID), ("v2", SHORT)),
    "a registry with a port and no tag": (Image("localhost:5000/shop/web", ID), (SHORT,)),
    "a tag and a digest": (Image("shop/web:1.4.2@sha256:" + "d" * 64, ID), ("1.4.2", SHORT)),
    "a digest alone": (Image("shop/web@sha256:" + "d" * 64, ID), (SHORT,)),
    "an ID alone": (Image(ID, ID), (SHORT,)),
    "a tag of guard's own": (Image("shop/web:backup_20261124_101500", ID), (SHORT,)),
    "a reference nobody can read": (Image("Shop/Web: 1", ID), (SHORT,)),
    "an image that nobody knows": (Image("shop/web:1.4.2", ""), ("1.4.2",)),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_names_of_a_release(name: str) -> None:
    image, names = NAMES[name]
    assert release_names(image) == names
