"""Teams, tags and sessions as scopes of budgets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add what is new; requests and keys from before it have no team, tags or session."""
    op.add_column("keys", sa.Column("team", sa.Text(), nullable=True))
    op.add_column("requests", sa.Column("team", sa.Text(), nullable=True))
    op.add_column("requests", sa.Column("tags", sa.JSON(), nullable=True))
    op.add_column("requests", sa.Column("session", sa.Text(), nullable=True))
