"""Rollbacks and gates: the intent before each step, the results as they come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, RowMapping, Select, exists, insert, select, update

from guard.errors import Refused, StateError
from guard.model import Gate, GateOutcome, HostResult, Phase, Plan, Rollback, RollbackOutcome, Trigger
from guard.store import audit, codec
from guard.store.database import Database
from guard.store.engine import upsert
from guard.store.schema import gates, rollback_hosts, rollbacks, to_micros

CLAIMS_NOTHING = (RollbackOutcome.DRY_RUN, RollbackOutcome.REFUSED)


class SqlJournal:
    def __init__(self, database: Database) -> None:
        self._db = database

    def begin_rollback(self, rollback: Rollback, plan: Plan, key: str) -> None:
        """Write the intent. Refused, with the id on record, when ``key`` has been claimed before.

        A rollback that comes as DRY_RUN or REFUSED is a record only: it claims no key.
        """
        claim = None if rollback.outcome in CLAIMS_NOTHING else key
        with self._db.write() as connection:
            _refuse_doubled(connection, rollback, claim)
            row = {
                "id": rollback.id,
                "key": claim,
                "service": rollback.service,
                "outcome": rollback.outcome.value,
                "phase": rollback.phase.value,
                "trigger": rollback.trigger.value,
                "reason": rollback.reason,
                "playbook": codec.playbook_document(rollback.playbook),
                "plan": codec.plan_document(plan),
                "artifacts": rollback.artifacts,
                "verified": rollback.verified,
                "fence": rollback.fence,
                "gate_id": rollback.gate_id,
                "answers": codec.answers_document(rollback.answers),
                "settings": dict(rollback.settings),
            }
            times = {"started_at": rollback.started_at, "ended_at": rollback.ended_at}
            connection.execute(insert(rollbacks).values(**row, **times))
            results = [codec.host_result_document(each) for each in rollback.hosts.values()]
            upsert(connection, rollback_hosts, [{"rollback_id": rollback.id, **each} for each in results])
            audit.append(connection, "rollback_begun", rollback.id, {**row, "hosts": results})

    def set_phase(self, rollback_id: str, phase: Phase, artifacts: str | None = None) -> None:
        """``artifacts`` None leaves the path as it is."""
        changed: dict[str, object] = {"phase": phase.value}
        if artifacts is not None:
            changed["artifacts"] = artifacts
        with self._db.write() as connection:
            _change(connection, rollback_id, changed)
            audit.append(connection, "rollback_phase", rollback_id, changed)

    def record_host(self, rollback_id: str, result: HostResult) -> None:
        """Where this host stands now; the audit keeps every earlier result."""
        row = codec.host_result_document(result)
        with self._db.write() as connection:
            if not connection.scalar(select(exists().where(rollbacks.c.id == rollback_id))):
                raise _unknown(rollback_id)
            upsert(connection, rollback_hosts, [{"rollback_id": rollback_id, **row}])
            audit.append(connection, "rollback_host", rollback_id, row)

    def end_rollback(
        self,
        rollback_id: str,
        outcome: RollbackOutcome,
        *,
        verified: bool,
        reason: str,
        ended_at: datetime,
        phase: Phase = Phase.ENDED,
    ) -> None:
        """ValueError for UNFINISHED: an attempt that is left for `guard resume` is not ended."""
        if outcome is RollbackOutcome.UNFINISHED:
            raise ValueError("a rollback does not end as unfinished")
        changed: dict[str, object] = {
            "outcome": outcome.value,
            "phase": phase.value,
            "verified": verified,
            "reason": reason,
        }
        with self._db.write() as connection:
            _change(connection, rollback_id, {**changed, "ended_at": ended_at})
            audit.append(connection, "rollback_ended", rollback_id, {**changed, "ended_at": to_micros(ended_at)})

    def rollback(self, rollback_id: str) -> Rollback | None:
        found = self._load(select(rollbacks).where(rollbacks.c.id == rollback_id))
        return found[0] if found else None

    def plan(self, rollback_id: str) -> Plan | None:
        with self._db.read() as connection:
            document = connection.scalar(select(rollbacks.c.plan).where(rollbacks.c.id == rollback_id))
        return None if document is None else codec.plan(document)

    def rollbacks(self, service: str | None = None, limit: int = 50) -> tuple[Rollback, ...]:
        """Newest first."""
        return self._load(_of(service).limit(limit))

    def unfinished(self, service: str | None = None) -> tuple[Rollback, ...]:
        """Newest first: those that have not ended, whoever began them."""
        return self._load(_of(service).where(rollbacks.c.ended_at.is_(None)))

    def begin_gate(self, gate: Gate) -> None:
        with self._db.write() as connection:
            if connection.scalar(select(exists().where(gates.c.id == gate.id))):
                raise StateError(f"gate {gate.id} is on record already")
            connection.execute(insert(gates).values(id=gate.id, **_gate_columns(gate)))
            audit.append(connection, "gate_begun", gate.id, {"services": list(gate.services)})

    def end_gate(self, gate: Gate) -> None:
        with self._db.write() as connection:
            change = update(gates).where(gates.c.id == gate.id).values(**_gate_columns(gate))
            if not connection.execute(change).rowcount:
                raise StateError(f"no gate {gate.id} is on record")
            outcome = None if gate.outcome is None else gate.outcome.value
            audit.append(connection, "gate_ended", gate.id, {"outcome": outcome, "reason": gate.reason})

    def gate(self, gate_id: str) -> Gate | None:
        with self._db.read() as connection:
            row = connection.execute(select(gates).where(gates.c.id == gate_id)).mappings().one_or_none()
        return None if row is None else _gate(row)

    def gates(self, limit: int = 50) -> tuple[Gate, ...]:
        """Newest first."""
        newest = select(gates).order_by(gates.c.started_at.desc(), gates.c.seq.desc()).limit(limit)
        with self._db.read() as connection:
            return tuple(_gate(row) for row in connection.execute(newest).mappings())

    def _load(self, wanted: Select[tuple[object, ...]]) -> tuple[Rollback, ...]:
        with self._db.read() as connection:
            rows = connection.execute(wanted).mappings().all()
            results = _results(connection, [row["id"] for row in rows])
        return tuple(_rollback(row, results[row["id"]]) for row in rows)


def _of(service: str | None) -> Select[tuple[object, ...]]:
    newest = select(rollbacks).order_by(rollbacks.c.started_at.desc(), rollbacks.c.seq.desc())
    return newest if service is None else newest.where(rollbacks.c.service == service)


def _refuse_doubled(connection: Connection, rollback: Rollback, claim: str | None) -> None:
    same = rollbacks.c.id == rollback.id
    if claim is not None:
        same |= rollbacks.c.key == claim
    row = connection.execute(select(rollbacks.c.id, rollbacks.c.outcome).where(same)).first()
    if row is not None:
        raise Refused(
            f"this rollback of service {rollback.service} is on record already: {row.id} ({row.outcome})",
            hint=f"see `guard history {row.id}`"
            + (f"; `guard resume {row.id}` finishes it" if row.outcome == RollbackOutcome.UNFINISHED else ""),
        )


def _change(connection: Connection, rollback_id: str, values: dict[str, object]) -> None:
    if not connection.execute(update(rollbacks).where(rollbacks.c.id == rollback_id).values(**values)).rowcount:
        raise _unknown(rollback_id)


def _unknown(rollback_id: str) -> StateError:
    return StateError(f"no rollback {rollback_id} is on record", hint="`guard history` lists them")


def _results(connection: Connection, ids: Sequence[str]) -> dict[str, dict[str, HostResult]]:
    results: dict[str, dict[str, HostResult]] = {each: {} for each in ids}
    wanted = select(rollback_hosts).where(rollback_hosts.c.rollback_id.in_(ids)).order_by(rollback_hosts.c.host)
    for row in connection.execute(wanted).mappings():
        results[row["rollback_id"]][row["host"]] = codec.host_result(row)
    return results


def _rollback(row: RowMapping, hosts: dict[str, HostResult]) -> Rollback:
    return Rollback(
        id=row["id"],
        service=row["service"],
        outcome=RollbackOutcome(row["outcome"]),
        phase=Phase(row["phase"]),
        trigger=Trigger(row["trigger"]),
        reason=row["reason"],
        playbook=None if row["playbook"] is None else codec.playbook(row["playbook"]),
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        hosts=hosts,
        artifacts=row["artifacts"],
        verified=row["verified"],
        fence=row["fence"],
        gate_id=row["gate_id"],
        answers=codec.answers(row["answers"] or ()),
        settings=row["settings"] or {},
    )


def _gate_columns(gate: Gate) -> dict[str, object]:
    return {
        "services": list(gate.services),
        "outcome": None if gate.outcome is None else gate.outcome.value,
        "reason": gate.reason,
        "started_at": gate.started_at,
        "ended_at": gate.ended_at,
        "document": dict(gate.document),
        "settings": dict(gate.settings),
    }


def _gate(row: RowMapping) -> Gate:
    return Gate(
        id=row["id"],
        services=tuple(row["services"]),
        outcome=None if row["outcome"] is None else GateOutcome(row["outcome"]),
        reason=row["reason"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        document=row["document"],
        settings=row["settings"] or {},
    )
