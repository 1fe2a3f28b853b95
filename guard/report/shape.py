"""Reading the JSON documents of ``gate`` and ``rollback`` without trusting their shape: records may be years old."""

from __future__ import annotations

from collections.abc import Mapping

Document = Mapping[str, object]
GOOD_OUTCOMES = ("healthy", "restored", "dry_run")  # of a gate or a rollback


def is_gate(document: Document) -> bool:
    return "services" in document


def text_of(document: Document, key: str) -> str:
    """The text there, or "" for nothing."""
    found = document.get(key)
    return "" if found is None else str(found)


def list_of(document: Document, key: str) -> list[Document]:
    found = document.get(key)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list | tuple) else []


def services_of(document: Document) -> list[Document]:
    return list_of(document, "services")


def targets_of(service: Document) -> list[Document]:
    return list_of(service, "targets")


def rollbacks_of(document: Document) -> list[Document]:
    """A gate's rollbacks; a rollback is its own only one."""
    return list_of(document, "rollbacks") if is_gate(document) else [document]


def hosts_of(rollback: Document) -> dict[str, Document]:
    found = rollback.get("hosts")
    if not isinstance(found, Mapping):
        return {}
    return {str(host): result for host, result in found.items() if isinstance(result, Mapping)}


def image_of(result: Document, key: str) -> str:
    """The readable name of the image at ``from`` or ``to``, or "-"."""
    found = result.get(key)
    return text_of(found, "image") or "-" if isinstance(found, Mapping) else "-"


def end_of(document: Document) -> str:
    return text_of(document, "ended_at")
