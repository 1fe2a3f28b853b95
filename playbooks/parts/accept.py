"""What a value of a plan may be. Each acceptor returns the value or raises ValueError with what it must be."""

from __future__ import annotations

import re

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}\Z")
IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}\Z")
REFERENCE = re.compile(
    r"(?=.{1,512}\Z)((?:[a-zA-Z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)(?::([\w][\w.-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?\Z",
    re.ASCII,
)
BACKUP_TAG = re.compile(r"backup_[0-9]{8}_[0-9]{6}\Z")


def text(pattern, what):
    def accept(value):
        if not isinstance(value, str) or not pattern.match(value):
            raise ValueError("must be " + what)
        return value

    return accept


def number(kind, low, high):
    def accept(value):
        if isinstance(value, bool) or not isinstance(value, (int, kind)) or not low <= value <= high:
            raise ValueError(f"must be a number from {low} to {high}")
        return value

    return accept


def flag(value):
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def engine_address(value):
    if not isinstance(value, str) or not re.match(r"(unix:///[^\0]+|tcp://[a-zA-Z0-9.\[\]:-]+:[0-9]+)\Z", value):
        raise ValueError("must be unix:///path or tcp://host:port")
    return value


def folder(value):
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError("must be an absolute path")
    return value


def image_reference(value):
    if not isinstance(value, str) or not (IMAGE_ID.match(value) or REFERENCE.match(value)):
        raise ValueError("must be an image reference")
    return value


def digest_reference(value):
    found = REFERENCE.match(value) if isinstance(value, str) else None
    if not found or not found.group(3):
        raise ValueError("must be repository@sha256:…")
    return value


def target_image(value):
    if not isinstance(value, dict) or set(value) - {"image", "image_id", "digest"}:
        raise ValueError("must be a mapping of image, image_id and digest")
    accepted = {"digest": None}
    for key, accept in (("image", image_reference), ("image_id", text(IMAGE_ID, "sha256:<64 hex digits>"))):
        try:
            accepted[key] = accept(value.get(key))
        except ValueError as wrong:
            raise ValueError(f"{key} {wrong}") from wrong
    if value.get("digest") is not None:
        accepted["digest"] = digest_reference(value["digest"])
    return accepted
