"""The tables of the ledger.

Money is whole nano-USD in BIGINT, times are UTC. Rows about money are added and closed, never
removed. The counters in ``budget_windows`` can be recomputed from ``holds`` and ``entries`` at any
time (see `storage.doctor`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cost_models.budgets import Period

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

RowId = BigInteger().with_variant(Integer, "sqlite")
ENUM_LENGTH = 16
UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
IMPORTED = "import"
"""Replica of the entries that `storage.history` took from elsewhere: nothing was spent here."""


class EntryStatus(StrEnum):
    """Where an entry stands.

    ``IN_DOUBT`` entries are closed and charged, at worst case where nobody said what was used.
    """

    OPEN = "open"
    SETTLED = "settled"
    IN_DOUBT = "in_doubt"


class UtcDateTime(TypeDecorator[datetime]):
    """An instant, kept in UTC and given back aware; a time without zone is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Turn an aware time into UTC; ValueError for a naive one."""
        if value is None:
            return None
        if value.tzinfo is None:
            msg = f"a time needs a time zone, got {value.isoformat()}"
            raise ValueError(msg)
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Give the stored instant, aware and in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class AnyText(TypeDecorator[str]):
    """Text from anywhere: what a database cannot store (NUL, half a surrogate pair) is replaced.

    An answer that its own ledger refuses would leave the money that it cost held for ever.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Replace what cannot be stored by U+FFFD."""
        if value is None or (value.isascii() and "\x00" not in value):
            return value
        return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)


def _enum(values: type[StrEnum]) -> Enum:
    return Enum(
        values,
        native_enum=False,
        length=ENUM_LENGTH,
        values_callable=lambda members: [member.value for member in members],
    )


class AdjustmentKind(StrEnum):
    """Why a cost was corrected: by the price book, or by what the provider billed."""

    REPRICE = "reprice"
    RECONCILE = "reconcile"


class Base(DeclarativeBase):
    """What all tables share: column types by annotation, and names for every constraint."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: BigInteger(),
        float: Double(),
        str: AnyText(),
        datetime: UtcDateTime(),
        dict[str, Any]: JSON(),
        EntryStatus: _enum(EntryStatus),
        AdjustmentKind: _enum(AdjustmentKind),
        Period: _enum(Period),
    }


class MetaRow(Base):
    """Facts about the ledger itself, such as ``ledger_id``, drawn when it was made."""

    __tablename__ = "meta"

    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class ReplicaRow(Base):
    """A process that opens entries. Its heartbeat says that what it has open is still alive.

    ``host`` tells apart machines, containers and boots; ``started`` is when the operating system
    says the process began, so that a reused pid is not taken for it ("" where unknown).
    """

    __tablename__ = "replicas"

    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    started: Mapped[str]
    registered_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]


class RequestRow(Base):
    """What a client asked. Texts are None where the operator keeps only their hash."""

    __tablename__ = "requests"
    __table_args__ = (Index(None, "received_at"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    end_user: Mapped[str | None]
    team: Mapped[str | None]
    tags: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    session: Mapped[str | None]
    model_asked: Mapped[str]
    answer_kind: Mapped[str]
    query_sha256: Mapped[str]
    query_text: Mapped[str | None]
    posing: Mapped[str | None]
    prompt_text: Mapped[str | None]
    received_at: Mapped[datetime]


class EntryRow(Base):
    """One attempt at a request: the decision, the money held for it, and what came of it.

    ``offered`` has the arms that could be picked (see `storage.offers`), ``shadow_arm`` what the
    policy in shadow would have picked of them.
    ``cost_nano_usd`` is 0 while open, then the sum of its calls and adjustments.
    ``recovered_at`` is set when the replica died and the whole hold was charged; ``finished_at``
    when somebody said what was really used, and ``reconciled_at`` when a bill did.
    """

    __tablename__ = "entries"
    __table_args__ = (
        UniqueConstraint("request_id", "attempt"),
        CheckConstraint("propensity > 0 AND propensity <= 1", name="propensity"),
        CheckConstraint("held_nano_usd >= 0 AND cost_nano_usd >= 0", name="money"),
        Index(None, "started_at"),
        Index(
            "ix_entries_open",
            "replica_id",
            sqlite_where=text("status = 'open'"),
            postgresql_where=text("status = 'open'"),
        ),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    request_id: Mapped[str] = mapped_column(ForeignKey("requests.id"))
    attempt: Mapped[int]
    replica_id: Mapped[str] = mapped_column(ForeignKey("replicas.id"))
    model: Mapped[str]
    strategy: Mapped[str]
    propensity: Mapped[float]
    policy_version: Mapped[str]
    predicted_quality: Mapped[float | None]
    predicted_cost_usd: Mapped[float | None]
    difficulty: Mapped[float | None]
    offered: Mapped[str | None]
    shadow_policy: Mapped[str | None]
    shadow_arm: Mapped[str | None]
    reason: Mapped[str]
    held_nano_usd: Mapped[int]
    cost_nano_usd: Mapped[int] = mapped_column(server_default="0")
    status: Mapped[EntryStatus]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    recovered_at: Mapped[datetime | None]
    reconciled_at: Mapped[datetime | None]
    latency_s: Mapped[float | None]
    n_calls: Mapped[int] = mapped_column(server_default="0")
    prompt_tokens: Mapped[int] = mapped_column(server_default="0")
    cached_prompt_tokens: Mapped[int] = mapped_column(server_default="0")
    cache_write_tokens: Mapped[int] = mapped_column(server_default="0")
    completion_tokens: Mapped[int] = mapped_column(server_default="0")
    reasoning_tokens: Mapped[int] = mapped_column(server_default="0")
    machine_ns: Mapped[int] = mapped_column(server_default="0")
    usage_estimated: Mapped[bool | None]
    answer_value: Mapped[str | None]
    confidence: Mapped[float | None]
    complete: Mapped[bool | None]
    error: Mapped[str | None]


class CallRow(Base):
    """One upstream call of an entry: what it used, what it cost, and by which price.

    ``provider`` is who was asked, as configured; "" where that was not written down.
    """

    __tablename__ = "calls"
    __table_args__ = (
        UniqueConstraint("entry_id", "seq"),
        CheckConstraint("cost_nano_usd >= 0", name="money"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    entry_id: Mapped[int] = mapped_column(ForeignKey("entries.id"))
    seq: Mapped[int]
    model: Mapped[str]
    role: Mapped[str]
    n_calls: Mapped[int]
    prompt_tokens: Mapped[int]
    cached_prompt_tokens: Mapped[int]
    cache_write_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    reasoning_tokens: Mapped[int]
    machine_ns: Mapped[int]
    usage_estimated: Mapped[bool]
    cost_nano_usd: Mapped[int]
    price_source: Mapped[str]
    latency_s: Mapped[float]
    status: Mapped[str]
    in_doubt: Mapped[bool]
    error: Mapped[str | None]
    stage: Mapped[int] = mapped_column(server_default="0")
    provider: Mapped[str] = mapped_column(server_default="")


class AttemptRow(Base):
    """One stage of a cascade: the arm that was run, what it used, and whether it was trusted.

    ``seq`` is the ``stage`` of its calls, whose sums it holds. ``judge`` is the rule or verifier
    that gave ``trust``; where it sufficed (``trusted``) the cascade ended. Money is held and spent
    by the entry alone, so nothing is counted twice.
    """

    __tablename__ = "attempts"
    __table_args__ = (
        UniqueConstraint("entry_id", "seq"),
        CheckConstraint("cost_nano_usd >= 0", name="money"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    entry_id: Mapped[int] = mapped_column(ForeignKey("entries.id"))
    seq: Mapped[int]
    model: Mapped[str]
    strategy: Mapped[str]
    n_calls: Mapped[int]
    prompt_tokens: Mapped[int]
    cached_prompt_tokens: Mapped[int]
    cache_write_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    reasoning_tokens: Mapped[int]
    machine_ns: Mapped[int]
    usage_estimated: Mapped[bool]
    cost_nano_usd: Mapped[int]
    latency_s: Mapped[float | None]
    answer_value: Mapped[str | None]
    confidence: Mapped[float | None]
    judge: Mapped[str]
    trust: Mapped[float | None]
    trusted: Mapped[bool]
    error: Mapped[str | None]


class AdjustmentRow(Base):
    """A correction of what a call, or a whole entry that a crash left, had been charged.

    ``amount_nano_usd`` is added and may be below 0. ``call_id`` is None where the entry has no
    calls. ``closes`` says that what was in doubt no longer is. ``source`` names the price, or the
    bill and its line.
    """

    __tablename__ = "adjustments"
    __table_args__ = (Index(None, "entry_id"), Index(None, "call_id"))

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    entry_id: Mapped[int] = mapped_column(ForeignKey("entries.id"))
    call_id: Mapped[int | None] = mapped_column(ForeignKey("calls.id"))
    kind: Mapped[AdjustmentKind]
    amount_nano_usd: Mapped[int]
    closes: Mapped[bool]
    source: Mapped[str]
    recorded_at: Mapped[datetime]


class RollupChangeRow(Base):
    """A transaction changed what began in an hour, of which the rollups may not know yet.

    Added in the transaction that makes the change, removed in the one that rolls the hour up again.
    """

    __tablename__ = "rollup_changes"
    __table_args__ = (Index(None, "hour"),)

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    hour: Mapped[datetime]


class RollupHourRow(Base):
    """An hour (UTC, by its start) that is rolled up, with what has no arm."""

    __tablename__ = "rollup_hours"

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    n_requests: Mapped[int]
    n_refused: Mapped[int]
    n_imported: Mapped[int]


class RollupEntryRow(Base):
    """The entries begun in one hour, by arm, tenant, team and status; see `storage.rollups`.

    ``team`` is "" where there is none. ``cost_nano_usd`` is None where no cost is known, as of open
    entries, and is of ``n_costed`` entries; ``quality_sum`` and ``graded_cost_nano_usd`` are of
    ``n_graded``, ``latency_s`` is the sum over ``n_timed``; ``n_failed`` were
    settled with an error.
    With w = 1 / the probability that an entry was picked for grading and q its quality,
    ``weight_sum`` is the sum of w over the graded ones, ``weighted_quality`` of w q, and
    ``weight2_sum``, ``weight2_quality``, ``weight2_quality2`` of w^2, w^2 q and w^2 q^2.
    """

    __tablename__ = "rollup_entries"

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    strategy: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    team: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[EntryStatus] = mapped_column(primary_key=True)
    n_entries: Mapped[int]
    n_finished: Mapped[int]
    n_failed: Mapped[int]
    n_costed: Mapped[int]
    cost_nano_usd: Mapped[int | None]
    overshoot_nano_usd: Mapped[int]
    n_graded: Mapped[int]
    quality_sum: Mapped[float]
    graded_cost_nano_usd: Mapped[int]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    machine_ns: Mapped[int]
    n_timed: Mapped[int]
    latency_s: Mapped[float]
    weight_sum: Mapped[float]
    weighted_quality: Mapped[float]
    weight2_sum: Mapped[float]
    weight2_quality: Mapped[float]
    weight2_quality2: Mapped[float]


class RollupDecisionRow(Base):
    """The closed entries begun in one hour, by arm and difficulty, as decisions.

    ``difficulty`` numbers the bins of `storage.rollups.BINS` from 0, -1 where none was predicted.
    Moments of grades are as in `RollupEntryRow`. ``n_random`` entries were picked with a propensity
    p below 1, at a cost of ``random_cost_nano_usd``; over them ``inverse_sum`` is the sum of 1 / p,
    ``inverse_cost`` of nano-USD / p, ``random_weight`` and ``random_quality`` of w and w q, and
    ``inverse_weight`` and ``inverse_quality`` of w / p and w q / p.
    """

    __tablename__ = "rollup_decisions"

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    strategy: Mapped[str] = mapped_column(primary_key=True)
    difficulty: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    n_entries: Mapped[int]
    n_failed: Mapped[int]
    n_in_doubt: Mapped[int]
    cost_nano_usd: Mapped[int]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    n_graded: Mapped[int]
    weight_sum: Mapped[float]
    weighted_quality: Mapped[float]
    weight2_sum: Mapped[float]
    weight2_quality: Mapped[float]
    weight2_quality2: Mapped[float]
    n_random: Mapped[int]
    random_cost_nano_usd: Mapped[int]
    inverse_sum: Mapped[float]
    inverse_cost: Mapped[float]
    random_weight: Mapped[float]
    random_quality: Mapped[float]
    inverse_weight: Mapped[float]
    inverse_quality: Mapped[float]


class RollupCallRow(Base):
    """The calls of the entries begun in one hour, by all that spend is told apart by.

    ``strategy`` and ``status`` are the entry's. What a crash left without calls has the role
    ``lost``: ``n_calls`` is 0 then, and ``cost_nano_usd`` what its entries are charged.
    ``n_in_doubt`` calls were charged at their worst case, of ``n_estimated`` nobody reported usage.
    Of the cost, ``failed_cost_nano_usd`` is of the ``n_failed`` calls that ended in an error, and
    ``first_cost_nano_usd`` of the first call of each entry where it did not.
    """

    __tablename__ = "rollup_calls"

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    strategy: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    team: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[EntryStatus] = mapped_column(primary_key=True)
    n_calls: Mapped[int]
    n_in_doubt: Mapped[int]
    n_estimated: Mapped[int]
    n_failed: Mapped[int]
    cost_nano_usd: Mapped[int]
    first_cost_nano_usd: Mapped[int]
    failed_cost_nano_usd: Mapped[int]
    prompt_tokens: Mapped[int]
    cached_prompt_tokens: Mapped[int]
    cache_write_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    reasoning_tokens: Mapped[int]
    machine_ns: Mapped[int]


class RefusalRow(Base):
    """A request that was turned away before anything was spent, and what stood in its way."""

    __tablename__ = "refusals"
    __table_args__ = (Index(None, "request_id"), Index(None, "refused_at"))

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    request_id: Mapped[str] = mapped_column(ForeignKey("requests.id"))
    model: Mapped[str | None]
    strategy: Mapped[str | None]
    reason: Mapped[str]
    scope: Mapped[str | None]
    asked_nano_usd: Mapped[int | None]
    refused_at: Mapped[datetime]


class OutcomeRow(Base):
    """How good an answer was, said by one grader; a grader's latest word counts.

    ``sample_prob`` is the probability with which the answer was picked for this grader, 1 where all
    are: grades of a sample stand for 1 / ``sample_prob`` answers in estimates of accuracy.
    """

    __tablename__ = "outcomes"
    __table_args__ = (
        CheckConstraint("quality >= 0 AND quality <= 1", name="quality"),
        CheckConstraint("weight > 0", name="weight"),
        Index(None, "entry_id", "grader"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    entry_id: Mapped[int] = mapped_column(ForeignKey("entries.id"))
    quality: Mapped[float]
    grader: Mapped[str]
    weight: Mapped[float]
    recorded_at: Mapped[datetime]
    sample_prob: Mapped[float] = mapped_column(server_default="1")


class BudgetRow(Base):
    """A limit on a scope's money over a period. One that no longer applies is kept, inactive.

    ``by_command`` says that a command made it; those of the file come and go with it. The limit of
    a prepaid one is the sum of its grants.
    """

    __tablename__ = "budgets"
    __table_args__ = (
        UniqueConstraint("scope", "period"),
        CheckConstraint("limit_nano_usd >= 0", name="limit"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    scope: Mapped[str]
    period: Mapped[Period]
    limit_nano_usd: Mapped[int]
    time_zone: Mapped[str]
    active: Mapped[bool]
    soft: Mapped[bool] = mapped_column(server_default=false())
    by_command: Mapped[bool] = mapped_column(server_default=false())


class GrantRow(Base):
    """Money put into a prepaid budget, or taken back; never changed. A reference counts once."""

    __tablename__ = "grants"
    __table_args__ = (
        UniqueConstraint("budget_id", "reference"),
        CheckConstraint("amount_nano_usd <> 0", name="money"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    budget_id: Mapped[int] = mapped_column(ForeignKey("budgets.id"))
    amount_nano_usd: Mapped[int]
    reference: Mapped[str | None]
    granted_at: Mapped[datetime]


class BudgetWindowRow(Base):
    """The counters of one budget in one window. The start is part of the key: nothing is reset.

    ``highest_limit_nano_usd`` is the highest limit under which a hold was granted here (in a
    soft budget whatever was used), and ``overshoot_nano_usd`` what providers billed beyond their
    holds; at every commit ``spent + held <= highest_limit + overshoot``. ``alerted_percent`` is the
    highest threshold that was told of, ``forecast_told`` says that its forecast was.
    """

    __tablename__ = "budget_windows"
    __table_args__ = (CheckConstraint("spent_nano_usd >= 0 AND held_nano_usd >= 0", name="money"),)

    budget_id: Mapped[int] = mapped_column(ForeignKey("budgets.id"), primary_key=True)
    window_start: Mapped[datetime] = mapped_column(primary_key=True)
    spent_nano_usd: Mapped[int]
    held_nano_usd: Mapped[int]
    overshoot_nano_usd: Mapped[int]
    highest_limit_nano_usd: Mapped[int]
    alerted_percent: Mapped[int] = mapped_column(server_default="0")
    forecast_told: Mapped[bool] = mapped_column(server_default=false())


class HoldRow(Base):
    """What one entry holds in one budget window; kept after settling, to say where it counts."""

    __tablename__ = "holds"
    __table_args__ = (
        ForeignKeyConstraint(
            ["budget_id", "window_start"],
            ["budget_windows.budget_id", "budget_windows.window_start"],
        ),
        CheckConstraint("amount_nano_usd >= 0", name="money"),
        Index(None, "budget_id", "window_start"),
    )

    entry_id: Mapped[int] = mapped_column(ForeignKey("entries.id"), primary_key=True)
    budget_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    window_start: Mapped[datetime]
    amount_nano_usd: Mapped[int]


class WaitRow(Base):
    """A request that waits for money held by others, at the budget that holds it back.

    Ids give the order of arrival. A place counts until ``expires_at``, which its process keeps
    putting off: what a dead process leaves behind soon stands in nobody's way.
    """

    __tablename__ = "waits"
    __table_args__ = (Index(None, "budget_id", "id"),)

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    budget_id: Mapped[int] = mapped_column(ForeignKey("budgets.id"))
    replica_id: Mapped[str] = mapped_column(ForeignKey("replicas.id"))
    expires_at: Mapped[datetime]


class KeyRow(Base):
    """A key that opens the gateway; ``digest`` is a keyed hash of it. Never removed, only ended."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    digest: Mapped[str]
    team: Mapped[str | None]
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    parallel_requests: Mapped[int | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    allowed_models: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))


class RateRow(Base):
    """What the keys of one name used of their limits; see `storage.rates`.

    Times are nanoseconds since 1970: until then something counts as used. ``in_flight`` is the
    number of the subject's permits.
    """

    __tablename__ = "rates"

    subject: Mapped[str] = mapped_column(primary_key=True)
    requests_until_ns: Mapped[int]
    tokens_until_ns: Mapped[int]
    in_flight: Mapped[int]


class PermitRow(Base):
    """A request under way whose key may ask so many at once; it lapses unless it is renewed."""

    __tablename__ = "permits"

    id: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(ForeignKey("rates.subject"))
    lapses_at: Mapped[datetime]


class AnswerRow(Base):
    """What a request with an idempotency key was answered; None while it is under way.

    ``replica_id`` runs it, or did. The key and the body are known by their SHA-256 alone.
    """

    __tablename__ = "kept_answers"
    __table_args__ = (Index(None, "expires_at"),)

    tenant: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    key_sha256: Mapped[str] = mapped_column(primary_key=True)
    body_sha256: Mapped[str]
    replica_id: Mapped[str]
    expires_at: Mapped[datetime]
    answer: Mapped[bytes | None]


class PolicyRow(Base):
    """A fitted policy. The one promoted last is in service."""

    __tablename__ = "policies"

    version: Mapped[str] = mapped_column(primary_key=True)
    artifact: Mapped[bytes]
    manifest: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    promoted_at: Mapped[datetime | None]


class TrialRow(Base):
    """A policy on trial beside the one in service; at most one trial has no end.

    ``share`` of the traffic is decided by it, 0 for a shadow. ``baseline`` was in service when it
    began. ``max_loss`` is the loss of quality, and ``max_rise`` the rise of cost as a share, that
    would be put up with, each told with certainty 1 - ``delta``; ``promotes`` says whether a policy
    that is shown to keep to them goes into service.
    """

    __tablename__ = "policy_trials"
    __table_args__ = (
        CheckConstraint("share >= 0 AND share <= 1", name="share"),
        Index(
            "ix_trials_running",
            "running",
            unique=True,
            sqlite_where=text("running = 1"),
            postgresql_where=text("running = 1"),
        ),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    version: Mapped[str] = mapped_column(ForeignKey("policies.version"))
    baseline: Mapped[str]
    share: Mapped[float]
    max_loss: Mapped[float]
    max_rise: Mapped[float]
    delta: Mapped[float]
    promotes: Mapped[bool]
    running: Mapped[int]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    reason: Mapped[str | None]
