"""The append-only record of every change but single observations, hash-chained so that an edit shows.

A row's ``hash`` is ``sha256(hash of the row before + canonical JSON of [seq, at, kind, subject, body])``; before the
first there are 64 zeros. ``meta.audit_head`` keeps ``seq:hash`` of the newest row, so that a cut tail shows too.
The chain shows damage and careless edits; whoever can write the database can also compute a new chain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from sqlalchemy import Connection, Row, insert, select, update

from guard.errors import StateError
from guard.model import AuditEntry
from guard.store.codec import canonical
from guard.store.database import Database
from guard.store.engine import now_s
from guard.store.schema import audit, from_micros, meta

HEAD = "audit_head"
START = "0:" + "0" * 64


def append(connection: Connection, kind: str, subject: str, body: Mapping[str, object]) -> None:
    """Add a row in the transaction of the change that it tells of."""
    # The head is the row that appenders queue at, where the database has no single writer by itself.
    head, now = connection.execute(select(meta.c.value, now_s()).where(meta.c.key == HEAD).with_for_update()).one()
    seq, before = _split(head)
    row = {"seq": seq + 1, "at": int(now * 1_000_000), "kind": kind, "subject": subject, "body": canonical(body)}
    digest = _digest(before, [*row.values()])
    connection.execute(insert(audit).values(**row, hash=digest))
    connection.execute(update(meta).where(meta.c.key == HEAD).values(value=f"{seq + 1}:{digest}"))


class SqlAudit:
    def __init__(self, database: Database) -> None:
        self._db = database

    def trail(self, subject: str) -> tuple[AuditEntry, ...]:
        with self._db.read() as connection:
            rows = connection.execute(select(audit).where(audit.c.subject == subject).order_by(audit.c.seq)).all()
        return tuple(AuditEntry(from_micros(row.at), row.kind, row.subject, json.loads(row.body)) for row in rows)

    def verify_audit(self) -> int:
        """The number of rows, all of them as they were written. StateError names the first that is not."""
        with self._db.read() as connection:
            head = connection.scalar(select(meta.c.value).where(meta.c.key == HEAD)) or START
            seq, before = _split(START)
            for row in connection.execute(select(audit).order_by(audit.c.seq).execution_options(yield_per=1000)):
                if row.seq != seq + 1 or row.hash != _digest(before, _content(row)):
                    raise StateError(
                        f"{self._db.where}: audit row {seq + 1} was changed or removed",
                        hint="the record cannot be trusted from there on; compare with a backup",
                    )
                seq, before = row.seq, row.hash
        if head != f"{seq}:{before}":
            raise StateError(
                f"{self._db.where}: audit rows after {seq} were removed, the newest should be {head.partition(':')[0]}",
                hint="the record's end is missing; compare with a backup",
            )
        return seq


def _split(head: str) -> tuple[int, str]:
    seq, _, digest = head.partition(":")
    return int(seq), digest


def _content(row: Row[tuple[object, ...]]) -> list[object]:
    return [row.seq, row.at, row.kind, row.subject, row.body]


def _digest(before: str, content: list[object]) -> str:
    return hashlib.sha256((before + canonical(content)).encode("ascii")).hexdigest()
