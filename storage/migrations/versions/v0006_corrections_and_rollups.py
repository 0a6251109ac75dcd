"""Corrections of what was charged, hourly rollups, and which provider was called."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KINDS = sa.Enum("reprice", "reconcile", name="adjustmentkind", native_enum=False, length=16)


ENTRY_COUNTS = (
    "n_entries",
    "n_finished",
    "n_costed",
    "overshoot_nano_usd",
    "n_graded",
    "graded_cost_nano_usd",
    "prompt_tokens",
    "completion_tokens",
    "machine_ns",
    "n_timed",
)
ENTRY_OTHERS: tuple[tuple[str, Any, bool], ...] = (
    ("cost_nano_usd", sa.BigInteger(), True),
    ("quality_sum", sa.Double(), False),
    ("latency_s", sa.Double(), False),
)
CALL_COUNTS = (
    "n_calls",
    "n_in_doubt",
    "n_estimated",
    "cost_nano_usd",
    "prompt_tokens",
    "cached_prompt_tokens",
    "cache_write_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "machine_ns",
)
STATUSES = sa.Enum("open", "settled", "in_doubt", name="entrystatus", native_enum=False, length=16)
MARKED = {
    "sqlite": "substr({time}, 1, 13) || ':00:00.000000'",
    "postgresql": "date_trunc('hour', {time} AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'",
}


def upgrade() -> None:
    """Add what is new; no row of before is changed, and every hour of them is to be rolled up."""
    op.add_column("entries", sa.Column("reconciled_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("calls", sa.Column("provider", sa.Text(), server_default="", nullable=False))
    _add_adjustments()
    _add_rollups()
    hour = MARKED[op.get_bind().dialect.name]
    times = (("entries", "started_at"), ("requests", "received_at"), ("refusals", "refused_at"))
    hours = " UNION ".join(f"SELECT {hour.format(time=time)} FROM {table}" for table, time in times)  # noqa: S608 - names from here
    op.execute(f"INSERT INTO rollup_changes (hour) {hours}")


def _add_adjustments() -> None:
    op.create_table(
        "adjustments",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("entry_id", sa.BigInteger(), nullable=False),
        sa.Column("call_id", sa.BigInteger(), nullable=True),
        sa.Column("kind", KINDS, nullable=False),
        sa.Column("amount_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("closes", sa.Boolean(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["entry_id"], ["entries.id"], name=op.f("fk_adjustments_entry_id")),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=op.f("fk_adjustments_call_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adjustments")),
    )
    op.create_index(op.f("ix_adjustments_entry_id"), "adjustments", ["entry_id"])
    op.create_index(op.f("ix_adjustments_call_id"), "adjustments", ["call_id"])


def _add_rollups() -> None:
    op.create_table(
        "rollup_changes",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollup_changes")),
    )
    op.create_index(op.f("ix_rollup_changes_hour"), "rollup_changes", ["hour"])
    _add_rollup("hours", (), ("n_requests", "n_refused", "n_imported"))
    _add_rollup("entries", ("model", "strategy", "tenant"), ENTRY_COUNTS, ENTRY_OTHERS)
    _add_rollup("calls", ("model", "strategy", "provider", "tenant", "role"), CALL_COUNTS)


def _add_rollup(
    name: str,
    keys: tuple[str, ...],
    counts: tuple[str, ...],
    others: tuple[tuple[str, Any, bool], ...] = (),
) -> None:
    """Make a table of one row for each hour, key and, where there are keys, status."""
    status: list[sa.Column[str]] = []
    if keys:
        status.append(sa.Column("status", STATUSES, nullable=False))
    op.create_table(
        f"rollup_{name}",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        *(sa.Column(key, sa.Text(), nullable=False) for key in keys),
        *status,
        *(sa.Column(count, sa.BigInteger(), nullable=False) for count in counts),
        *(sa.Column(other, kind, nullable=nullable) for other, kind, nullable in others),
        sa.PrimaryKeyConstraint(
            "hour", *keys, *(column.name for column in status), name=op.f(f"pk_rollup_{name}")
        ),
    )
