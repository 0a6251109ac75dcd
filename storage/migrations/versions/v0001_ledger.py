"""The first schema: requests, entries, calls, outcomes, budgets, replicas, policies."""

from __future__ import annotations

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
UTC_TIME = sa.DateTime(timezone=True)
ENUM = sa.String(16)


def upgrade() -> None:
    """Make every table, and draw the ledger's id."""
    _budgets()
    _meta()
    _policies()
    _replicas()
    _requests()
    _budget_windows()
    _entries()
    _refusals()
    _calls()
    _holds()
    _outcomes()
    meta = sa.table("meta", sa.column("key", sa.Text), sa.column("value", sa.Text))
    op.execute(sa.insert(meta).values(key="ledger_id", value=uuid4().hex))


def _budgets() -> None:
    op.create_table(
        "budgets",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("period", ENUM, nullable=False),
        sa.Column("limit_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.CheckConstraint("limit_nano_usd >= 0", name=op.f("ck_budgets_limit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budgets")),
        sa.UniqueConstraint("scope", "period", name=op.f("uq_budgets_scope_period")),
    )


def _meta() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_meta")),
    )


def _policies() -> None:
    op.create_table(
        "policies",
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("artifact", sa.LargeBinary(), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("created_at", UTC_TIME, nullable=False),
        sa.Column("promoted_at", UTC_TIME, nullable=True),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_policies")),
    )


def _replicas() -> None:
    op.create_table(
        "replicas",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("started", sa.Text(), nullable=False),
        sa.Column("registered_at", UTC_TIME, nullable=False),
        sa.Column("heartbeat_at", UTC_TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replicas")),
    )


def _requests() -> None:
    op.create_table(
        "requests",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("end_user", sa.Text(), nullable=True),
        sa.Column("model_asked", sa.Text(), nullable=False),
        sa.Column("answer_kind", sa.Text(), nullable=False),
        sa.Column("query_sha256", sa.Text(), nullable=False),
        sa.Column("query_text", sa.Text(), nullable=True),
        sa.Column("prompt_text", sa.Text(), nullable=True),
        sa.Column("received_at", UTC_TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_requests")),
    )
    op.create_index(op.f("ix_requests_received_at"), "requests", ["received_at"], unique=False)


def _budget_windows() -> None:
    op.create_table(
        "budget_windows",
        sa.Column("budget_id", ROW_ID, nullable=False),
        sa.Column("window_start", UTC_TIME, nullable=False),
        sa.Column("spent_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("held_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("overshoot_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("highest_limit_nano_usd", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "spent_nano_usd >= 0 AND held_nano_usd >= 0", name=op.f("ck_budget_windows_money")
        ),
        sa.ForeignKeyConstraint(
            ["budget_id"], ["budgets.id"], name=op.f("fk_budget_windows_budget_id")
        ),
        sa.PrimaryKeyConstraint("budget_id", "window_start", name=op.f("pk_budget_windows")),
    )


def _entries() -> None:
    op.create_table(
        "entries",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("replica_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("propensity", sa.Double(), nullable=False),
        sa.Column("policy_version", sa.Text(), nullable=False),
        sa.Column("predicted_quality", sa.Double(), nullable=True),
        sa.Column("predicted_cost_usd", sa.Double(), nullable=True),
        sa.Column("difficulty", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("held_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("cost_nano_usd", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("status", ENUM, nullable=False),
        sa.Column("started_at", UTC_TIME, nullable=False),
        sa.Column("finished_at", UTC_TIME, nullable=True),
        sa.Column("recovered_at", UTC_TIME, nullable=True),
        sa.Column("latency_s", sa.Double(), nullable=True),
        sa.Column("n_calls", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cached_prompt_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("machine_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("usage_estimated", sa.Boolean(), nullable=True),
        sa.Column("answer_value", sa.Text(), nullable=True),
        sa.Column("confidence", sa.Double(), nullable=True),
        sa.Column("complete", sa.Boolean(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "held_nano_usd >= 0 AND cost_nano_usd >= 0", name=op.f("ck_entries_money")
        ),
        sa.CheckConstraint(
            "propensity > 0 AND propensity <= 1", name=op.f("ck_entries_propensity")
        ),
        sa.ForeignKeyConstraint(
            ["replica_id"], ["replicas.id"], name=op.f("fk_entries_replica_id")
        ),
        sa.ForeignKeyConstraint(
            ["request_id"], ["requests.id"], name=op.f("fk_entries_request_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entries")),
        sa.UniqueConstraint("request_id", "attempt", name=op.f("uq_entries_request_id_attempt")),
    )
    op.create_index(
        "ix_entries_open",
        "entries",
        ["replica_id"],
        unique=False,
        sqlite_where=sa.text("status = 'open'"),
        postgresql_where=sa.text("status = 'open'"),
    )
    op.create_index(op.f("ix_entries_started_at"), "entries", ["started_at"], unique=False)


def _refusals() -> None:
    op.create_table(
        "refusals",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("strategy", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=True),
        sa.Column("asked_nano_usd", sa.BigInteger(), nullable=True),
        sa.Column("refused_at", UTC_TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["request_id"], ["requests.id"], name=op.f("fk_refusals_request_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refusals")),
    )
    op.create_index(op.f("ix_refusals_refused_at"), "refusals", ["refused_at"], unique=False)
    op.create_index(op.f("ix_refusals_request_id"), "refusals", ["request_id"], unique=False)


def _calls() -> None:
    op.create_table(
        "calls",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("entry_id", ROW_ID, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("n_calls", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("machine_ns", sa.BigInteger(), nullable=False),
        sa.Column("usage_estimated", sa.Boolean(), nullable=False),
        sa.Column("cost_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("price_source", sa.Text(), nullable=False),
        sa.Column("latency_s", sa.Double(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("in_doubt", sa.Boolean(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("cost_nano_usd >= 0", name=op.f("ck_calls_money")),
        sa.ForeignKeyConstraint(["entry_id"], ["entries.id"], name=op.f("fk_calls_entry_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calls")),
        sa.UniqueConstraint("entry_id", "seq", name=op.f("uq_calls_entry_id_seq")),
    )


def _holds() -> None:
    op.create_table(
        "holds",
        sa.Column("entry_id", ROW_ID, nullable=False),
        sa.Column("budget_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("window_start", UTC_TIME, nullable=False),
        sa.Column("amount_nano_usd", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount_nano_usd >= 0", name=op.f("ck_holds_money")),
        sa.ForeignKeyConstraint(
            ["budget_id", "window_start"],
            ["budget_windows.budget_id", "budget_windows.window_start"],
            name=op.f("fk_holds_budget_id_window_start"),
        ),
        sa.ForeignKeyConstraint(["entry_id"], ["entries.id"], name=op.f("fk_holds_entry_id")),
        sa.PrimaryKeyConstraint("entry_id", "budget_id", name=op.f("pk_holds")),
    )
    op.create_index(
        op.f("ix_holds_budget_id_window_start"),
        "holds",
        ["budget_id", "window_start"],
        unique=False,
    )


def _outcomes() -> None:
    op.create_table(
        "outcomes",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("entry_id", ROW_ID, nullable=False),
        sa.Column("quality", sa.Double(), nullable=False),
        sa.Column("grader", sa.Text(), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("recorded_at", UTC_TIME, nullable=False),
        sa.CheckConstraint("quality >= 0 AND quality <= 1", name=op.f("ck_outcomes_quality")),
        sa.CheckConstraint("weight > 0", name=op.f("ck_outcomes_weight")),
        sa.ForeignKeyConstraint(["entry_id"], ["entries.id"], name=op.f("fk_outcomes_entry_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outcomes")),
    )
    op.create_index(
        op.f("ix_outcomes_entry_id_grader"), "outcomes", ["entry_id", "grader"], unique=False
    )
