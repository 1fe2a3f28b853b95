"""Image references as the field writes them."""

from __future__ import annotations

import pytest

from guard.decide import reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "repository", "tag", "digest"),
    [
        ("web", "web", "", ""),
        ("web:1.0.0", "web", "1.0.0", ""),
        ("127.0.0.1:5000/shop/web:1.0.0", "127.0.0.1:5000/shop/web", "1.0.0", ""),
        ("registry.example/web@" + DIGEST, "registry.example/web", "", DIGEST),
        ("registry.example/web:1@" + DIGEST, "registry.example/web", "1", DIGEST),
    ],
)
def test_a_reference_has_a_repository_a_tag_and_a_digest(text: str, repository: str, tag: str, digest: str) -> None:
    parsed = reference.parse(text)
    assert (parsed.repository, parsed.tag, parsed.digest) == (repository, tag, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-web",
        "--privileged",
        "web:",
        "Web",
        "web:1 2",
        "web;rm",
        "../web",
        "{{ lookup('pipe', 'id') }}",
        "web\n",
        "a@b",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an image reference"):
        reference.parse(text)


def test_the_default_registry_makes_no_other_repository() -> None:
    assert reference.same_repository("docker.io/library/web", "web")
    assert not reference.same_repository("registry.example/web", "web")


def test_an_image_id_is_told_from_a_name() -> None:
    assert reference.parse(DIGEST).image_id == "a" * 64
    assert reference.looks_like_id("abcdef012345")
    assert not reference.looks_like_id("web")


def test_tags_that_guard_sets_are_known_as_its_own() -> None:
    assert reference.is_guard_tag("web:backup_20261123_120000")
    assert reference.is_guard_tag("127.0.0.1:5000/web:guard_abcdef012345")
    assert not reference.is_guard_tag("web:1.0.0")
