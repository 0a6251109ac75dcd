"""The report's document: it adds up, says what is missing, and asks for what the figures demand."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from made_reports import AS_OF, LIMIT_USD, document_of, material_of, question
from sqlalchemy import event

from cost_models.accuracy import GradeSums, Standing
from cost_models.anomalies import Anomaly
from cost_models.ownership import Machines, Range
from cost_models.unit_costs import FrontierPoint
from router.reports.decision import decision
from router.reports.difficulty import difficulty
from router.reports.errors import ReportError
from router.reports.gates import Gate, Verdict, judge, parse_gates
from router.reports.sections import buy_or_rent, drivers, events
from storage.report_extras import ToldAlert
from storage.reports import totals
from storage.slices import UNTAGGED, Slice

if TYPE_CHECKING:
    from router.reports.reading import Material
    from storage.store import Ledger

    Plain = dict[str, Any]

RENT = {"status": "rent", "text": "Rent."}
MOST_STATEMENTS = 40
SECTIONS = (
    "header",
    "decision",
    "tiles",
    "charts",
    "drivers",
    "difficulty",
    "buy_or_rent",
    "trace_audit",
    "events",
    "footer",
)


@pytest.fixture
def material(made: Ledger) -> Material:
    """Give the material of the month that goes on."""
    return material_of(made)


def tile(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Find a tile."""
    return next(each for each in document["tiles"] if each["name"] == name)


def test_every_total_is_the_ledgers_to_the_nano_usd(made: Ledger, september: Plain) -> None:
    """Drivers, days, compute and the bridge each end at what was spent."""
    since, until = datetime(2026, 9, 1, tzinfo=UTC), AS_OF
    spent = made.read(lambda session: totals(session, since, until)).cost_nano_usd
    *parts, whole = september["drivers"]["rows"]
    assert whole["cost_nano_usd"] == spent
    assert sum(part["cost_nano_usd"] for part in parts) == spent
    assert sum(part["share"] for part in parts) == pytest.approx(1.0)
    charts = september["charts"]
    assert charts["burn_up"]["cumulated_nano_usd"][-1] == spent
    assert sum(part["nano_usd"] for part in charts["compute"]["parts"]) == spent
    change = charts["change"]
    moved = sum(part["nano_usd"] for part in change["parts"])
    assert change["before_nano_usd"] + moved == change["after_nano_usd"] == spent


def test_it_is_whole_json_and_the_same_each_time(made: Ledger, september: Plain) -> None:
    """No NaN, no clock: the same question gives the same document, snapshot and all."""
    assert set(SECTIONS) < set(september)
    assert (september["schema"], september["schema_version"]) == ("rheostat.report", 1)
    text = json.dumps(september, allow_nan=False)
    assert json.dumps(document_of(made), allow_nan=False) == text
    later = document_of(made, question(as_of=datetime(2026, 9, 18, 1, tzinfo=UTC)))
    assert later["header"]["snapshot"] != september["header"]["snapshot"]


def test_the_forecast_on_the_tile_is_the_end_of_the_chart(september: Plain) -> None:
    """Two places, one figure; and the fan holds its middle."""
    ahead = september["charts"]["burn_up"]["forecast"]
    total = september["facts"]["forecast"]["total_usd"]
    assert ahead[-1]["middle_usd"] == pytest.approx(total["value"])
    assert ahead[-1]["low_usd"] == pytest.approx(total["low"])
    assert (ahead[0]["day"], ahead[-1]["day"]) == ("2026-09-18", "2026-09-30")
    for day in ahead:
        assert day["low_usd"] <= day["middle_usd"] <= day["high_usd"]
    chance = september["facts"]["forecast"]["probability_over"]
    assert tile(september, "forecast")["probability_over"] == chance


def test_an_empty_ledger_claims_nothing(nothing: Plain) -> None:
    """No figure is 0 for want of data, no chart is drawn, and the decision says so."""
    assert [each["value"] for each in nothing["tiles"]] == [None] * 5
    assert {each["status"] for each in nothing["tiles"]} == {Standing.NOT_ENOUGH_DATA.value}
    assert all(chart["empty"] for chart in nothing["charts"].values())
    assert nothing["decision"]["kind"] == "nothing"
    assert [row["cost_nano_usd"] for row in nothing["drivers"]["rows"]] == [None, None]
    assert nothing["events"] == []
    assert nothing["trace_audit"]["status"] == "not audited"
    json.dumps(nothing, allow_nan=False)


def test_a_period_that_is_over_forecasts_the_next_one(made: Ledger) -> None:
    """The burn-up has no fan then; the forecast is held against the next month's budget."""
    august = document_of(made, question("2026-08"))
    assert august["header"]["over"]
    assert august["charts"]["burn_up"]["forecast"] == []
    coming = tile(august, "forecast")
    assert coming["title"] == "Forecast, next period"
    assert f"exceed ${LIMIT_USD}.00" in coming["detail"]
    again = document_of(made, question("2026-08", datetime(2026, 9, 20, tzinfo=UTC)))
    assert again["header"]["snapshot"] == august["header"]["snapshot"]


def test_how_many_statements_a_report_takes(made: Ledger) -> None:
    """A report does not read more as its ledger grows."""
    said: list[str] = []

    def hear(*given: object) -> None:
        said.append(str(given[2]))

    event.listen(made.engine, "before_cursor_execute", hear)
    try:
        document_of(made)
    finally:
        event.remove(made.engine, "before_cursor_execute", hear)
    assert sum("SELECT" in statement for statement in said) <= MOST_STATEMENTS


def test_a_better_arm_alone_is_told_first(material: Material) -> None:
    """Cheaper and more often right beyond doubt: the policy should go."""
    arm = FrontierPoint("sim-large|direct", 1e-6, 1e-9, 0.99, 0.001, 900)
    facts = replace(material.facts, frontier=(arm,), marginal=())
    found = decision(replace(material, facts=facts), RENT)
    assert found["kind"] == "replace_policy"
    assert "sim-large direct alone is right 99.0% of the time" in found["text"]
    unsure = replace(arm, accuracy_error=0.5)
    facts = replace(material.facts, frontier=(unsure,), marginal=())
    assert decision(replace(material, facts=facts), RENT)["kind"] != "replace_policy"


def test_a_budget_that_will_not_last_is_told_with_its_day(made: Ledger) -> None:
    """Money, what saving it gives up, and the day on which it runs out."""
    tight = replace(
        (material := material_of(made)),
        limit_nano_usd=material.facts.whole.cost_nano_usd,
    )
    assert tight.facts.forecast is not None
    forecast = replace(tight.facts.forecast, over=0.9, days_left=3)
    found = decision(replace(tight, facts=replace(tight.facts, forecast=forecast)), RENT)
    assert found["kind"] == "over_budget"
    assert found["deadline"] == "2026-09-20"
    assert found["text"].startswith("Raise the budget from $")
    assert "90% likely to exceed" in found["text"]


def test_without_grades_grading_is_asked_for(material: Material) -> None:
    """What the money bought cannot be told before."""
    whole = replace(material.facts.whole, grades=GradeSums())
    facts = replace(material.facts, whole=whole, forecast=None)
    found = decision(replace(material, facts=facts, limit_nano_usd=None), RENT)
    assert "grade" in found["kind"] or any("graded" in other for other in found["also"])


def test_all_others_and_no_team_complete_the_drivers(material: Material) -> None:
    """Five names at most, then the others as one; untagged spend is never dropped."""
    teams = tuple(Slice(f"team{i}", 1, cost_nano_usd=10 - i) for i in range(8))
    untagged = Slice(UNTAGGED, 1, cost_nano_usd=7)
    whole = replace(material.facts.whole, cost_nano_usd=sum(range(3, 11)) + 7)
    facts = replace(material.facts, by={"team": (*teams, untagged)}, whole=whole)
    rows = drivers(replace(material, facts=facts))["rows"]
    names = [row["name"] for row in rows]
    assert names[5:] == ["3 other teams", "no team", "all"]
    assert sum(row["cost_nano_usd"] for row in rows[:-1]) == rows[-1]["cost_nano_usd"]


def test_owning_is_held_against_the_periods_own_volume(made: Ledger, nothing: Plain) -> None:
    """Cheap machines pay from a small volume, dear ones never; without any nothing is said."""
    machines = Machines(usd_per_query=0.01, s_per_query=1.0, usd_per_machine_month=5.0)
    ranges = {"usd_per_query": Range(0.005, 0.01, 0.02)}
    own = buy_or_rent(material_of(made, replace(question(), machines=machines, ranges=ranges)))
    assert (own["status"], own["break_even"]) == ("own", pytest.approx(500))
    assert own["low"] < 500 < own["high"]
    dear = replace(machines, usd_per_machine_month=1e9)
    assert buy_or_rent(material_of(made, replace(question(), machines=dear)))["status"] == "rent"
    assert nothing["buy_or_rent"]["status"] == "not enough data"


def test_what_happened_stands_on_one_line_of_time(material: Material) -> None:
    """Odd days, alerts and policies, each with its day, in order."""
    alert = ToldAlert("team:a", "month", datetime(2026, 9, 1, tzinfo=UTC), 80, by_forecast=False)
    ahead = replace(alert, scope="team:b", by_forecast=True)
    promoted = (("v2", datetime(2026, 9, 9, 23, tzinfo=UTC)),)
    odd = (material.facts.days[3], Anomaly(3, 9.0, 3.0, 5.0))
    found = events(
        replace(
            material,
            facts=replace(material.facts, anomalies=(odd,)),
            extras=replace(material.extras, promoted=promoted, alerts=(alert, ahead)),
        )
    )
    told = [(each["day"], each["kind"]) for each in found]
    assert told == [
        ("2026-09-01", "budget alert"),
        ("2026-09-01", "budget alert"),
        ("2026-09-04", "unusual spend"),
        ("2026-09-09", "policy"),
    ]
    assert "80% used" in found[0]["text"]
    assert "forecast to be exceeded" in found[1]["text"]
    assert found[2]["impact_usd"] == 6.0


@pytest.mark.parametrize(
    ("statuses", "over", "chance", "gate", "verdict"),
    [
        (("breach", None), False, None, Gate.OVER_BUDGET, Verdict.FAILED),
        (("on track", None), False, 0.6, Gate.OVER_BUDGET, Verdict.FAILED),
        (("on track", None), True, 0.6, Gate.OVER_BUDGET, Verdict.PASSED),
        (("watch", None), False, 0.4, Gate.OVER_BUDGET, Verdict.PASSED),
        (("not enough data", None), False, None, Gate.OVER_BUDGET, Verdict.UNDECIDED),
        ((None, "breach"), False, None, Gate.ACCURACY, Verdict.FAILED),
        ((None, "watch"), False, None, Gate.ACCURACY, Verdict.PASSED),
        ((None, None), False, None, Gate.ACCURACY, Verdict.UNDECIDED),
        ((None, "not enough data"), False, None, Gate.ACCURACY, Verdict.UNDECIDED),
    ],
)
def test_a_gate_passes_fails_or_cannot_be_decided(
    statuses: tuple[str | None, str | None],
    over: bool,  # noqa: FBT001
    chance: float | None,
    gate: Gate,
    verdict: Verdict,
) -> None:
    """What is likely to come counts as long as the period goes on."""
    spent, accuracy = statuses
    document = {
        "header": {"over": over},
        "tiles": [
            {"name": "spent", "status": spent, "detail": "s"},
            {"name": "accuracy", "status": accuracy, "detail": "a"},
            {"name": "forecast", "status": None, "detail": "f", "probability_over": chance},
        ],
    }
    assert judge(document, gate)[0] is verdict


def test_an_unknown_gate_is_named() -> None:
    """The message lists those there are."""
    assert parse_gates("accuracy, over-budget") == [Gate.ACCURACY, Gate.OVER_BUDGET]
    with pytest.raises(ReportError, match="over-budget, accuracy"):
        parse_gates("profit")


def test_bins_of_difficulty_hold_every_routed_answer(material: Material, september: Plain) -> None:
    """They add up to what was routed; harder ones are right less often, and each has its status."""
    told = september["difficulty"]
    rows = told["rows"]
    assert [row["name"].split(",")[0] for row in rows if row["bin"] != "unknown"] == [
        "easiest",
        "easy",
        "middling",
        "hard",
        "hardest",
    ]
    assert told["target"] == material.facts.asked.target
    slices = material.facts.by["difficulty"]
    assert sum(row["n_answered"] for row in rows) == sum(part.n_answered for part in slices)
    assert sum(row["cost_nano_usd"] for row in rows) == sum(
        part.cost_nano_usd or 0 for part in slices
    )
    assert sum(row["share"] for row in rows) == pytest.approx(1.0)
    known = [row for row in rows if row["accuracy"] is not None]
    assert known[0]["accuracy"]["value"] > known[-1]["accuracy"]["value"]
    assert {row["standing"] for row in known} <= {each.value for each in Standing}


def test_a_period_without_routed_questions_says_so(material: Material) -> None:
    """No bin is made up, and without a target none has a status."""
    facts = replace(material.facts, by={**material.facts.by, "difficulty": ()})
    told = difficulty(replace(material, facts=facts))
    assert told["rows"] == []
    assert told["empty"] == "no question was routed in this period"
    aimless = replace(material.facts, asked=replace(material.facts.asked, target=None))
    rows = difficulty(replace(material, facts=aimless))["rows"]
    assert {row["standing"] for row in rows} == {None}
