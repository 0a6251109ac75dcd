"""Limits on how fast keys ask, what was used of them, and forecasts that were told of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add what is new; no row of before is changed."""
    for name in ("requests_per_minute", "tokens_per_minute", "parallel_requests"):
        op.add_column("keys", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column(
        "budget_windows",
        sa.Column("forecast_told", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.create_table(
        "rates",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("requests_until_ns", sa.BigInteger(), nullable=False),
        sa.Column("tokens_until_ns", sa.BigInteger(), nullable=False),
        sa.Column("in_flight", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_rates")),
    )
    op.create_table(
        "permits",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("lapses_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["subject"], ["rates.subject"], name=op.f("fk_permits_subject")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_permits")),
    )
