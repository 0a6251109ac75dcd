"""Requests keep how they were posed beside their text: turns, tools, images, the kind asked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column; of requests from before it nothing but the text is known."""
    op.add_column("requests", sa.Column("posing", sa.Text(), nullable=True))
