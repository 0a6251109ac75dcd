"""Corrections of what was charged, by the price book or by a provider's bill."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0004"

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KINDS = sa.Enum("reprice", "reconcile", name="adjustmentkind", native_enum=False, length=16)


def upgrade() -> None:
    """Add what is new; no row of before is changed: nothing of them was corrected yet."""
    op.add_column("entries", sa.Column("reconciled_at", sa.DateTime(timezone=True), nullable=True))
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
