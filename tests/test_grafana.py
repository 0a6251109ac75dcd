"""The Grafana dashboard: each panel runs on a real PostgreSQL ledger and says what reports do."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from cost_models.accuracy import lower_bound
from policies.synthetic import World
from router.cli.build import open_database
from router.jobs.simulate import simulate
from storage.facts import Asked, read_facts
from storage.reports import parts, totals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Postgres

    from storage.store import Ledger

pytestmark = pytest.mark.postgres
DASHBOARD = Path(__file__).parents[1] / "deploy" / "grafana" / "money.json"
WORLD = World(date(2026, 6, 20), days=16, requests_per_day=300, seed=1)
SINCE = datetime(2026, 6, 21, tzinfo=UTC)
UNTIL = datetime(2026, 7, 5, 6, tzinfo=UTC)
HOURS = (UNTIL - SINCE) / timedelta(hours=1)
TABLES = (
    "rollup_hours rollup_entries rollup_decisions rollup_calls rollup_changes "
    "budgets budget_windows"
)
Rows = list[dict[str, Any]]


def panels() -> dict[str, dict[str, Any]]:
    """Give the panels by title."""
    return {panel["title"]: panel for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]}


@pytest.fixture(scope="module")
def filled(postgres: Postgres) -> Iterator[Ledger]:
    """Sixteen simulated days, and a user that may read what the docs say."""
    ledger = open_database(postgres.new_database())
    simulate(ledger, WORLD)
    with ledger.engine.begin() as connection:
        connection.execute(text("CREATE ROLE grafana_reader"))
        connection.execute(text(f"GRANT SELECT ON {', '.join(TABLES.split())} TO grafana_reader"))
    yield ledger
    ledger.close()


def shown(ledger: Ledger, title: str) -> Rows:
    """Run a panel as Grafana would, as a user that may only read the tables that it needs."""
    (target,) = panels()[title]["targets"]
    sql = target["rawSql"]
    for macro, at in (("$__timeFrom()", SINCE), ("$__timeTo()", UNTIL)):
        sql = sql.replace(macro, f"'{at:%Y-%m-%dT%H:%M:%SZ}'")
    assert "$" not in sql
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql("SET ROLE grafana_reader")
        found = connection.exec_driver_sql(sql.replace("%", "%%")).mappings().all()
        connection.exec_driver_sql("RESET ROLE")
    if target["format"] == "time_series":
        assert all(isinstance(row["time"], datetime) for row in found)
    return [dict(row) for row in found]


def nano(rows: Rows, name: str) -> int:
    """Add USD up, exactly."""
    return int(sum(Decimal(row[name]) for row in rows) * 10**9)


def test_money_is_the_reports_to_the_nano_usd(filled: Ledger) -> None:
    """Spent, by hour and team, by role, by arm, in doubt: each adds up to the same."""
    whole = filled.read(lambda s: totals(s, SINCE, UNTIL))
    spent = whole.cost_nano_usd
    assert nano(shown(filled, "Spent"), "spent") == spent > 0
    (rate,) = shown(filled, "Per hour")
    assert float(rate["usd_per_hour"]) == pytest.approx(spent / 1e9 / HOURS)
    by_team = shown(filled, "Spend rate by team")
    assert nano(by_team, "usd") == spent
    for part in filled.read(lambda s: parts(s, "team", SINCE, UNTIL)):
        mine = [row for row in by_team if row["metric"] == (part.name or "no team")]
        assert nano(mine, "usd") == part.cost_nano_usd
    by_role = shown(filled, "Where the compute goes")
    for part in filled.read(lambda s: parts(s, "role", SINCE, UNTIL)):
        mine = [row for row in by_role if row["metric"] == part.name]
        assert nano(mine, "usd") == part.cost_nano_usd
    assert nano(shown(filled, "Spent so far")[-1:], "spent") == spent
    assert nano(shown(filled, "A right answer, by arm"), "spent") == spent
    facts = filled.read(lambda s: read_facts(s, Asked(SINCE, UNTIL)))
    doubted = nano(shown(filled, "Of it in doubt"), "in_doubt_usd")
    assert doubted == facts.coverage.in_doubt_nano_usd > 0
    unsure = shown(filled, "Calls whose cost is not sure")
    calls = filled.read(lambda s: parts(s, "model", SINCE, UNTIL))
    for mine, theirs in [("in_doubt", "n_in_doubt"), ("estimated", "n_estimated")]:
        assert sum(row[mine] for row in unsure) == sum(getattr(c, theirs) for c in calls)


def test_estimates_are_the_reports(filled: Ledger) -> None:
    """Cost of a right answer, accuracy with its lower bound, and what was saved."""
    facts = filled.read(lambda s: read_facts(s, Asked(SINCE, UNTIL)))
    whole, saved = facts.whole, facts.savings
    (each,) = shown(filled, "A right answer")
    assert whole.usd_per_correct is not None
    assert float(each["usd_per_correct"]) == pytest.approx(whole.usd_per_correct.value)
    (right,) = shown(filled, "Accuracy, and what it exceeds with 95 % certainty")
    assert whole.accuracy is not None
    assert right["accuracy"] == pytest.approx(whole.accuracy.value)
    assert float(right["lower_bound"]) == pytest.approx(lower_bound(whole.grades), abs=1e-4)
    assert right["graded"] == whole.grades.n
    (per_hour,) = shown(filled, "Saved per hour")
    expected = saved.to_dict()["saved_usd"]["value"] / HOURS
    assert float(per_hour["saved_per_hour"]) == pytest.approx(expected)
    arms = {f"{r['model']}|{r['strategy']}": r for r in shown(filled, "A right answer, by arm")}
    for part in facts.by["arm"]:
        row, told = arms.pop(part.name), part.usd_per_correct
        assert row["answers"] == part.n_closed
        assert (row["usd_per_correct"] is None) == (told is None)
        if told is not None:
            assert float(row["usd_per_correct"]) == pytest.approx(told.value)
    assert arms == {}


def test_budgets_are_those_of_the_latest_window(filled: Ledger) -> None:
    """Each budget once, in July, as the ledger counts it."""
    rows = {row["scope"]: row for row in shown(filled, "Burn against budgets")}
    now = datetime(2026, 7, 5, 6, tzinfo=UTC)
    status = {s.facts.scope: s.facts for s in filled.budget_status(now)}
    assert rows.keys() == status.keys()
    for scope, facts in status.items():
        assert nano([rows[scope]], "spent") == facts.spent_nano_usd
        assert nano([rows[scope]], "limit_usd") == facts.limit_nano_usd
        assert rows[scope]["used"] == pytest.approx(facts.spent_nano_usd / facts.limit_nano_usd)


def test_what_is_not_known_is_empty_and_what_lags_is_told(filled: Ledger) -> None:
    """No row makes a number up where there is no data; hours with marks are counted."""
    assert [row["hours"] for row in shown(filled, "Hours not rolled up yet")] == [0]
    with filled.engine.begin() as connection:
        connection.execute(text("INSERT INTO rollup_changes (hour) VALUES ('2026-07-01T00:00Z')"))
    assert [row["hours"] for row in shown(filled, "Hours not rolled up yet")] == [1]
    with filled.engine.begin() as connection:
        connection.execute(text("DELETE FROM rollup_changes"))
    early = (SINCE - timedelta(days=90)).isoformat()
    for title in ("A right answer", "Saved per hour", "Spent"):
        sql = panels()[title]["targets"][0]["rawSql"].replace("$__timeFrom()", f"'{early}'")
        sql = sql.replace("$__timeTo()", f"'{(SINCE - timedelta(days=80)).isoformat()}'")
        with filled.engine.connect() as connection:
            (value,) = connection.exec_driver_sql(sql).one()
        assert value == (0 if title == "Spent" else None)


def test_every_panel_is_tested_placed_and_described() -> None:
    """Panels do not overlap, have an SQL of their own and a unit, and these tests read each."""
    found = panels()
    source = Path(__file__).read_text("utf-8")
    taken: set[tuple[int, int]] = set()
    for title, panel in found.items():
        assert f'"{title}"' in source
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
        named = set(re.findall(r"(?:FROM|JOIN) ([a-z_]+)", panel["targets"][0]["rawSql"]))
        assert {name for name in named if name.startswith(("rollup", "budget"))} <= {
            *TABLES.split()
        }
    assert len({panel["id"] for panel in found.values()}) == len(found)
