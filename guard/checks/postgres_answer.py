"""What a database's answer says about it: its role, how far a replica lags, the query's row, the connection's time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from guard.checks.verdict import excerpt, unhealthy
from guard.model import Measurement, State

Scalar = str | int | float | bool | None
Expected = Scalar | tuple[Scalar, ...]

# An idle primary sends no transactions, so the time of the last one grows on a replica that is level with it: what has
# been received is replayed then. That alone says nothing when nothing is received any more, hence the WAL receiver.
# Its row is seen by every role; other columns than pid only with pg_read_all_stats. What a replica received may be
# behind what it replayed right after its start.
STANDING = b"""
select pg_is_in_recovery(),
       case when not pg_is_in_recovery() then 0
            when pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn()
                 and exists (select pid from pg_stat_wal_receiver) then 0
            else greatest(0, extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp()))
       end::float8,
       exists (select pid from pg_stat_wal_receiver)
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is expected. ``expect``: the first column of the first row, or as a tuple the whole row; None: any answer.

    ``max_lag``, ``degraded_above`` and ``unhealthy_above`` are seconds; the last two limit the time to connect.
    """

    expect: Expected = None
    role: Literal["primary", "replica"] | None = None
    max_lag: float | None = None
    degraded_above: float | None = None
    unhealthy_above: float | None = None

    @property
    def asks_standing(self) -> bool:
        return self.role is not None or self.max_lag is not None


@dataclass(frozen=True, slots=True)
class Standing:
    """``lag_s``: seconds behind the primary; None on a replica that replayed nothing since it started."""

    replica: bool
    lag_s: float | None
    receives: bool

    @property
    def role(self) -> str:
        return "replica" if self.replica else "primary"


@dataclass(frozen=True, slots=True)
class Answered:
    """``row``: the query's first one, if any. ``standing`` is None when it was not asked for."""

    row: tuple[object, ...] | None
    connect_s: float
    standing: Standing | None = None


def judge(wanted: Wanted, answered: Answered, latency: float) -> Measurement:
    """The role first, the time to connect last: a slow wrong answer is a wrong answer."""
    standing = answered.standing
    evidence = {"connect_s": f"{answered.connect_s:.3f}"}
    if standing is not None:
        lag = {"lag_s": f"{standing.lag_s:.3f}"} if standing.replica and standing.lag_s is not None else {}
        evidence |= {"role": standing.role, **lag}
    problem = _of_standing(wanted, standing) or _of_row(wanted.expect, answered.row)
    took = f"connecting took {answered.connect_s:.3g} s"
    if problem is None and wanted.unhealthy_above is not None and answered.connect_s > wanted.unhealthy_above:
        problem = f"{took}, more than {wanted.unhealthy_above:g} s"
    if problem is not None:
        return unhealthy(problem, latency, evidence)
    if wanted.degraded_above is not None and answered.connect_s > wanted.degraded_above:
        return Measurement(State.DEGRADED, latency, f"{took}, more than {wanted.degraded_above:g} s", evidence)
    return Measurement(State.HEALTHY, latency, _good(wanted, standing), evidence)


def _good(wanted: Wanted, standing: Standing | None) -> str:
    told = "the query was answered" if wanted.expect is None else f"the query gave {_shown(wanted.expect)}"
    if standing is None:
        return told
    behind = f", {standing.lag_s:.3g} s behind" if standing.replica and standing.lag_s is not None else ""
    return f"{told} by the {standing.role}{behind}"


def _of_standing(wanted: Wanted, standing: Standing | None) -> str | None:
    if standing is None:
        return None
    if wanted.role is not None and standing.role != wanted.role:
        return f"the server is a {standing.role}, expected a {wanted.role}"
    if wanted.max_lag is None or not standing.replica:
        return None
    silent = "" if standing.receives else ", and receives nothing from its primary"
    if standing.lag_s is None:
        return f"the replica has replayed no transaction since it started{silent}"
    if standing.lag_s > wanted.max_lag:
        return f"the replica is {standing.lag_s:.3g} s behind, expected at most {wanted.max_lag:g} s{silent}"
    return None


def _of_row(expect: Expected, row: tuple[object, ...] | None) -> str | None:
    if expect is None:
        return None
    if row is None:
        return f"the query has no row, expected {_shown(expect)}"
    if isinstance(expect, tuple):
        same = len(row) == len(expect) and all(_same(e, f) for e, f in zip(expect, row, strict=True))
        return None if same else f"the query gave {_shown(row)}, expected {_shown(expect)}"
    return None if _same(expect, row[0]) else f"the query gave {_shown(row[0])}, expected {_shown(expect)}"


def _same(expected: object, found: object) -> bool:
    if expected is None or found is None:
        return expected is found
    equal = found == expected and isinstance(found, bool) == isinstance(expected, bool)
    return equal or str(found) == str(expected)  # numeric, uuid, dates: compared as they are written


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return excerpt("(" + ", ".join(_written(item) for item in value) + ")")
    return excerpt(_written(value))


def _written(value: object) -> str:
    plain = value is None or isinstance(value, (str, int, float, bool))
    return repr(value if plain else str(value))


def standing_of(row: tuple[object, ...]) -> Standing:
    """The row of STANDING."""
    replica, lag, receives = row
    return Standing(bool(replica), float(lag) if isinstance(lag, (int, float)) else None, bool(receives))
