"""Places in the queue for money, thresholds that were told of, keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
UTC_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add what is new; no row of before is changed."""
    _waits()
    _keys()
    op.add_column(
        "budget_windows",
        sa.Column("alerted_percent", sa.BigInteger(), server_default="0", nullable=False),
    )


def _waits() -> None:
    op.create_table(
        "waits",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("budget_id", sa.BigInteger(), nullable=False),
        sa.Column("replica_id", sa.Text(), nullable=False),
        sa.Column("expires_at", UTC_TIME, nullable=False),
        sa.ForeignKeyConstraint(["budget_id"], ["budgets.id"], name=op.f("fk_waits_budget_id")),
        sa.ForeignKeyConstraint(["replica_id"], ["replicas.id"], name=op.f("fk_waits_replica_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_waits")),
    )
    op.create_index(op.f("ix_waits_budget_id_id"), "waits", ["budget_id", "id"], unique=False)


def _keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("created_at", UTC_TIME, nullable=False),
        sa.Column("expires_at", UTC_TIME, nullable=True),
        sa.Column("revoked_at", UTC_TIME, nullable=True),
        sa.Column("allowed_models", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
    )
