"""How reliable the judges of cascades were, on graded requests."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from cost_models.types import Arm
from policies.types import Decision, Query
from router.cli.main import app
from storage.engine import create_ledger_engine, migrate
from storage.ledger import Asked, Attempted, OpenEntry, SettleEntry
from storage.outcomes import Grade
from storage.reliability import Reliability, read_reliability
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
SMALL, LARGE = Arm("small", "direct"), Arm("large", "direct")


@pytest.fixture(name="ledger")
def _ledger(tmp_path: Path) -> Iterator[Ledger]:
    engine = create_ledger_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    migrate(engine)
    ledger = Ledger(engine)
    yield ledger
    ledger.close()


def judged(
    ledger: Ledger, name: str, stages: list[tuple[str | None, bool]], grade: float | None
) -> None:
    """Serve one request by a cascade; ``stages`` are answers, and whether each was trusted."""
    decision = Decision(Arm("cascade", "verified(small/direct > large/direct)"), 1.0, "v")
    entry = OpenEntry(Asked(Query(name, "2 + 2?")), decision, 0)
    entry_id = ledger.open(entry, NOW)
    attempts = tuple(
        Attempted(arm, "game24", answer_value=said, trust=float(trusted), trusted=trusted)
        for arm, (said, trusted) in zip((SMALL, LARGE), stages, strict=False)
    )
    given = stages[-1][0]
    ledger.settle(SettleEntry(entry_id, (), 0.1, answer_value=given, attempts=attempts), NOW)
    if grade is not None:
        ledger.record_outcome(name, Grade(quality=grade, grader="g", weight=1.0), NOW)


def test_stages_are_graded_by_the_answer_that_was_given(ledger: Ledger) -> None:
    """Another answer than a right one was wrong; beside a wrong one nothing is known."""
    judged(ledger, "trusted and right", [("4", True)], 1.0)
    judged(ledger, "trusted and wrong", [("5", True)], 0.0)
    judged(ledger, "escalated to a right one", [("5", False), ("4", True)], 1.0)
    judged(ledger, "right, and not trusted", [("4", False), ("4", False)], 1.0)
    judged(ledger, "another wrong one", [("6", False), ("5", False)], 0.0)
    judged(ledger, "unreadable", [(None, False), ("4", True)], 1.0)
    judged(ledger, "not graded", [("4", True)], None)
    large, small = ledger.read(read_reliability)
    assert small == Reliability("game24", "small", 2, 1, 2, 1)
    assert large == Reliability("game24", "large", 3, 2, 1, 0)
    assert (small.sensitivity, small.specificity, small.precision) == (0.5, 0.5, 0.5)
    assert large.precision == 1.0
    later = NOW + timedelta(seconds=1)
    assert ledger.read(lambda s: read_reliability(s, later)) == []
    assert ledger.read(lambda s: read_reliability(s, None, NOW)) == []


def test_the_report_shows_them(ledger: Ledger, tmp_path: Path) -> None:
    """As shares of how many, and in the document."""
    judged(ledger, "right", [("5", False), ("4", True)], 1.0)
    config = tmp_path / "rheostat.yaml"
    model = "{name: small, model: openai/x, price: {free: true}}"
    config.write_text(f"ledger: sqlite:///{tmp_path / 'ledger.db'}\nmodels: [{model}]\n")
    shown = CliRunner().invoke(app, ["report", "-c", str(config)])
    assert "game24" in shown.output
    assert "100% of 1" in shown.output
    told = json.loads(CliRunner().invoke(app, ["report", "-c", str(config), "--json"]).output)
    assert [(j["model"], j["specificity"]) for j in told["judges"]] == [
        ("large", None),
        ("small", 1.0),
    ]


def test_shares_of_nothing_are_unknown() -> None:
    """Never 0 or 1 where nothing was seen."""
    empty = Reliability("agree", "m", 0, 0, 0, 0)
    assert empty.sensitivity is empty.specificity is empty.precision is None
