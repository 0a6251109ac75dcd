"""Teams, tags and sessions as scopes of budgets; soft budgets, those made by command, grants."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
UTC_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add what is new; requests and keys from before it have no team, tags or session."""
    op.add_column("keys", sa.Column("team", sa.Text(), nullable=True))
    op.add_column("requests", sa.Column("team", sa.Text(), nullable=True))
    op.add_column("requests", sa.Column("tags", sa.JSON(), nullable=True))
    op.add_column("requests", sa.Column("session", sa.Text(), nullable=True))
    for name in ("soft", "by_command"):
        op.add_column(
            "budgets", sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())
        )
    op.create_table(
        "grants",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("budget_id", sa.BigInteger(), nullable=False),
        sa.Column("amount_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("granted_at", UTC_TIME, nullable=False),
        sa.CheckConstraint("amount_nano_usd <> 0", name=op.f("ck_grants_money")),
        sa.ForeignKeyConstraint(["budget_id"], ["budgets.id"], name=op.f("fk_grants_budget_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grants")),
        sa.UniqueConstraint("budget_id", "reference", name=op.f("uq_grants_budget_id_reference")),
    )
