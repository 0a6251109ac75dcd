"""Rollups by team, and of decisions by difficulty; the share of answers that was graded.

Rollups are sums of rows, so those of before are dropped and every hour is to be rolled up again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

STATUSES = sa.Enum("open", "settled", "in_doubt", name="entrystatus", native_enum=False, length=16)
MOMENTS = (
    "weight_sum",
    "weighted_quality",
    "weight2_sum",
    "weight2_quality",
    "weight2_quality2",
)
ENTRY_COUNTS = (
    "n_entries",
    "n_finished",
    "n_failed",
    "n_costed",
    "overshoot_nano_usd",
    "n_graded",
    "graded_cost_nano_usd",
    "prompt_tokens",
    "completion_tokens",
    "machine_ns",
    "n_timed",
)
DECISION_COUNTS = (
    "n_entries",
    "n_failed",
    "n_in_doubt",
    "cost_nano_usd",
    "prompt_tokens",
    "completion_tokens",
    "n_graded",
    "n_random",
    "random_cost_nano_usd",
)
DECISION_SUMS = (
    *MOMENTS,
    "inverse_sum",
    "inverse_cost",
    "random_weight",
    "random_quality",
    "inverse_weight",
    "inverse_quality",
)
CALL_COUNTS = (
    "n_calls",
    "n_in_doubt",
    "n_estimated",
    "n_failed",
    "cost_nano_usd",
    "first_cost_nano_usd",
    "failed_cost_nano_usd",
    "prompt_tokens",
    "cached_prompt_tokens",
    "cache_write_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "machine_ns",
)


def upgrade() -> None:
    """Make the rollups anew and mark their hours."""
    op.add_column(
        "outcomes", sa.Column("sample_prob", sa.Double(), server_default="1", nullable=False)
    )
    op.execute("INSERT INTO rollup_changes (hour) SELECT hour FROM rollup_hours")
    op.execute("DELETE FROM rollup_hours")
    op.drop_table("rollup_entries")
    op.drop_table("rollup_calls")
    _add_rollup(
        "entries",
        (*_texts("model", "strategy", "tenant", "team"), _status()),
        ENTRY_COUNTS,
        ("quality_sum", "latency_s", *MOMENTS),
        unknown="cost_nano_usd",
    )
    difficulty = sa.Column("difficulty", sa.BigInteger(), autoincrement=False, nullable=False)
    _add_rollup(
        "decisions", (*_texts("model", "strategy"), difficulty), DECISION_COUNTS, DECISION_SUMS
    )
    keys = _texts("model", "strategy", "provider", "tenant", "team", "role")
    _add_rollup("calls", (*keys, _status()), CALL_COUNTS, ())


def _status() -> sa.Column[str]:
    return sa.Column("status", STATUSES, nullable=False)


def _texts(*names: str) -> tuple[sa.Column[str], ...]:
    return tuple(sa.Column(name, sa.Text(), nullable=False) for name in names)


def _add_rollup(
    name: str,
    keys: tuple[sa.Column[str] | sa.Column[int], ...],
    counts: tuple[str, ...],
    sums: tuple[str, ...],
    unknown: str | None = None,
) -> None:
    """Make a table of one row for each hour and key; the count ``unknown`` may be NULL."""
    op.create_table(
        f"rollup_{name}",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        *keys,
        *(sa.Column(count, sa.BigInteger(), nullable=False) for count in counts),
        *(sa.Column(figure, sa.Double(), nullable=False) for figure in sums),
        *([] if unknown is None else [sa.Column(unknown, sa.BigInteger(), nullable=True)]),
        sa.PrimaryKeyConstraint(
            "hour", *(key.name for key in keys), name=op.f(f"pk_rollup_{name}")
        ),
    )
