"""The nouns. Frozen values with no behaviour beyond their own invariants; no I/O, no clock.

Times are timezone-aware UTC datetimes; durations and latencies are seconds (float).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class State(StrEnum):
    """What one measurement of a target said. ``UNKNOWN`` is never counted as bad and never as good."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class ReleaseState(StrEnum):
    """``CANDIDATE``: seen, not yet trusted. ``GOOD``: proven. ``REJECTED``: never a target again."""

    CANDIDATE = "candidate"
    GOOD = "good"
    REJECTED = "rejected"


class HostState(StrEnum):
    """How one host ended (or stands) in a rollback."""

    RESTORED = "restored"  # the target image runs there now, put back by this rollback
    UNCHANGED = "unchanged"  # the target image ran there already
    REVERTED = "reverted"  # the target did not start or get healthy: what was there was put back
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    SKIPPED = "skipped"  # not touched: no target, an earlier batch failed, or outside --limit
    PLANNED = "planned"  # decided, nothing done yet (and the end state of a dry run)


class RollbackOutcome(StrEnum):
    RESTORED = "restored"
    PARTIAL = "partial"
    FAILED = "failed"
    REFUSED = "refused"
    DRY_RUN = "dry_run"
    UNFINISHED = "unfinished"


class Phase(StrEnum):
    """The journal of a rollback: the last durable step. Written before the step begins."""

    DECIDED = "decided"
    CLAIMED = "claimed"
    PREPARING = "preparing"
    SWAPPING = "swapping"
    VERIFYING = "verifying"
    REVERTING = "reverting"  # a host failed, and those that were restored are put back; a crash is resumed as this
    ENDED = "ended"
    REVERTED = "reverted"  # ended, after everything was put back; a host that was out of reach is to follow
    LOST = "lost"  # the run vanished without a result: hosts must be observed before anything is decided


class GateOutcome(StrEnum):
    HEALTHY = "healthy"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"
    NOT_ROLLED_BACK = "not_rolled_back"
    INCONCLUSIVE = "inconclusive"


class Trigger(StrEnum):
    THRESHOLD = "threshold"
    MANUAL = "manual"
    RESUME = "resume"


@dataclass(frozen=True, slots=True, order=True)
class TargetKey:
    """One check on one host. ``host`` is "" for a check without a host."""

    service: str
    check: str
    host: str = ""

    def __str__(self) -> str:
        return f"{self.service}/{self.check}" + (f"@{self.host}" if self.host else "")


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a probe returns. ``reason`` is one plain sentence; ``evidence`` small strings (status, body excerpt …)."""

    state: State
    latency_s: float | None
    reason: str
    evidence: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observation:
    target: TargetKey
    state: State
    latency_s: float | None
    reason: str
    at: datetime
    evidence: Mapping[str, str] = field(default_factory=dict)
    source: str = ""  # who measured: "watch", or the ID of a gate, or of the rollback that was verified


@dataclass(frozen=True, slots=True)
class ObservedHour:
    """The observations of one target in one hour, folded when they got old. Latencies: of those that had one."""

    target: TargetKey
    hour: datetime  # its first moment
    healthy: int = 0
    degraded: int = 0
    unhealthy: int = 0
    unknown: int = 0
    latency_min_s: float | None = None
    latency_avg_s: float | None = None
    latency_max_s: float | None = None
    first_bad: str = ""  # the reason of the first that was unhealthy


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change on record, as plain JSON. ``kind``: rollback_begun, rollback_phase, release_state …"""

    at: datetime
    kind: str
    subject: str
    body: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Image:
    """An image as it was seen on a host: ``image`` is the human reference, ``image_id`` the truth.

    ``digest`` is the registry's ``repository@sha256:…`` when the engine knows one: what it can be pulled by.
    """

    image: str
    image_id: str
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class LocalImage:
    """An image an engine holds. ``tags`` are full references; ``created`` orders images of a repository."""

    image_id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    created: datetime
    size_bytes: int = 0
    irreversible: bool = False  # its label says that what it did (a migration) cannot be undone


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """A Swarm service's tasks. ``starting``: some are on their way up.

    ``trouble`` is why the newest task that fell out did, "" when every slot is filled. ``update`` is the swarm's word
    for where the last update stands, ``message`` its reason. ``taken_back``: the engine itself went back from it.
    """

    running: int
    wanted: int
    starting: bool = False
    trouble: str = ""
    update: str = ""
    message: str = ""
    taken_back: bool = False


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """One look at a container. ``health`` is the engine's health check status or "" when the image has none.

    A Swarm service is looked at as one container too: it has ``tasks``, and is ``running`` or ``incomplete``.
    """

    name: str
    container_id: str
    image: Image
    status: str  # created | running | paused | restarting | removing | exited | dead
    health: str
    health_log: str
    exit_code: int
    oom_killed: bool
    restart_count: int
    started_at: str
    error: str = ""
    tasks: TaskFacts | None = None
    pin: str = ""  # the rollback whose pin in the Compose project this container was made under


@dataclass(frozen=True, slots=True)
class ContainerUnit:
    """A container with a name of its own."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class ComposeUnit:
    """A service of a Compose project: its container is known by labels, whatever its name."""

    project: str
    service: str

    def __str__(self) -> str:
        return f"{self.project}/{self.service}"


@dataclass(frozen=True, slots=True)
class SwarmUnit:
    """A service of a Swarm, known by its name."""

    service: str

    def __str__(self) -> str:
        return self.service


Unit = ContainerUnit | ComposeUnit | SwarmUnit
"""What a service is on each of its hosts, and what one rollback restores there."""


@dataclass(frozen=True, slots=True)
class HostMeans:
    """What a host has to be changed with. None: it could not be found out."""

    free_bytes: int | None = None  # on the file system that holds the engine's images
    python: tuple[int, int] | None = None  # (0, 0) when there is none
    engine: str = ""  # the engine's own version
    ahead_s: float | None = None  # how far the host's clock is ahead of guard's; half the answer's time is uncertain


@dataclass(frozen=True, slots=True)
class Host:
    """An inventory host: its name and its variables (plain data, never evaluated)."""

    name: str
    variables: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Release:
    """What ran on each host at one time. ``healthy`` says how it was when recorded (None: could not be measured)."""

    id: str
    service: str
    state: ReleaseState
    origin: str  # snapshot | gate | watch
    recorded_at: datetime
    hosts: Mapping[str, Image]
    healthy: bool | None
    reason: str = ""
    irreversible: bool = False  # cannot be undone: its coming; in a snapshot: the deploy after it (decide.crossing)


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What guard saw on one host before it decided. ``problem`` is set when it could not look.

    ``container`` is the name of what runs there; when nothing was seen, the unit in words.
    """

    host: str
    container: str
    running: ContainerFacts | None = None
    images: tuple[LocalImage, ...] = ()
    problem: str = ""
    unreachable: bool = False


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What one host is to get, and from where that was decided. ``to`` is None when there is no target."""

    host: str
    container: str
    from_: Image | None
    to: Image | None
    source: str = ""  # release | local-images | explicit
    problem: str = ""
    unreachable: bool = False

    @property
    def changes(self) -> bool:
        """Whether the host is to run another image than the one that is known to run there."""
        return self.from_ is not None and self.to is not None and self.from_.image_id != self.to.image_id


@dataclass(frozen=True, slots=True)
class HostResult:
    host: str
    state: HostState
    from_: Image | None = None
    to: Image | None = None
    backup_tag: str | None = None
    downtime_s: float | None = None
    error: str | None = None
    notice: str | None = None  # what people must know about a host that is well, such as a pin in its Compose project


@dataclass(frozen=True, slots=True)
class PlaybookRef:
    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A rollback as decided: complete before anything is touched. ``batches`` are cumulative-resolved host lists."""

    service: str
    playbook: PlaybookRef
    backup_tag: str
    batches: tuple[tuple[str, ...], ...]
    hosts: Mapping[str, HostPlan]
    on_batch_failure: str = "stop"
    group: tuple[str, ...] = ()  # the services it is rolled back together with, itself included, in order of the swaps
    rejects: bool = True  # False: its release did not fail itself, and goes along with the others of the group


@dataclass(frozen=True, slots=True)
class RuleAnswer:
    """What one policy rule said. ``allows`` False is a veto; ``sentence`` says why in plain words."""

    rule: str
    allows: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Rollback:
    """The record of one attempt. ``ended_at`` is None and ``outcome`` UNFINISHED until it has ended.

    ``answers``: what every policy rule said before it. ``settings``: the thresholds in force then, as plain JSON.
    """

    id: str
    service: str
    outcome: RollbackOutcome
    phase: Phase
    trigger: Trigger
    reason: str
    playbook: PlaybookRef | None
    started_at: datetime
    ended_at: datetime | None
    hosts: Mapping[str, HostResult]
    artifacts: str | None
    verified: bool
    fence: int = 0
    gate_id: str | None = None
    answers: tuple[RuleAnswer, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gate:
    id: str
    services: tuple[str, ...]
    outcome: GateOutcome | None
    reason: str
    started_at: datetime
    ended_at: datetime | None
    document: Mapping[str, object] = field(default_factory=dict)  # the JSON document of CONTRACT `gate`, once ended
    settings: Mapping[str, object] = field(default_factory=dict)  # the thresholds and times in force, as plain JSON


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to act on a service until ``ttl_s`` after its last renewal. ``fence`` only ever grows."""

    service: str
    holder: str
    fence: int
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Hold:
    service: str
    reason: str
    author: str
    created_at: datetime
    until: datetime
