"""What each decision was offered, what a policy in shadow would have picked, trials."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
UTC_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add what is new; of decisions made before it is not known."""
    for name in ("offered", "shadow_policy", "shadow_arm"):
        op.add_column("entries", sa.Column(name, sa.Text(), nullable=True))
    op.create_table(
        "policy_trials",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("baseline", sa.Text(), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("max_loss", sa.Double(), nullable=False),
        sa.Column("max_rise", sa.Double(), nullable=False),
        sa.Column("delta", sa.Double(), nullable=False),
        sa.Column("promotes", sa.Boolean(), nullable=False),
        sa.Column("running", sa.BigInteger(), nullable=False),
        sa.Column("started_at", UTC_TIME, nullable=False),
        sa.Column("ended_at", UTC_TIME, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint("share >= 0 AND share <= 1", name=op.f("ck_policy_trials_share")),
        sa.ForeignKeyConstraint(
            ["version"], ["policies.version"], name=op.f("fk_policy_trials_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy_trials")),
    )
    op.create_index(
        "ix_trials_running",
        "policy_trials",
        ["running"],
        unique=True,
        sqlite_where=sa.text("running = 1"),
        postgresql_where=sa.text("running = 1"),
    )
