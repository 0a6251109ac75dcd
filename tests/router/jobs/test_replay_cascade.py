"""Cascades over recorded samples."""

from __future__ import annotations

import json
import os
from pathlib import Path

import anyio
import pytest
from typer.testing import CliRunner

from policies.errors import OutcomeError
from policies.outcomes import OutcomeTable
from policies.types import AnswerKind
from router.cli.main import app
from router.jobs.replay_cascade import CascadeReplay, replay_cascade
from router.strategies.escalation import parse_escalation

DATA = Path(os.environ.get("RHEOSTAT_DATA", Path(__file__).parents[3].parent / "shared" / "data"))
MOT = DATA / "mot_cascade.parquet"
CASCADE = "small/cot|direct then small/code|direct then escalate to large/cot|direct until agree"


def table(*queries: dict[str, str], cost: bool = True) -> OutcomeTable:
    """Record queries: answers by arm, one letter a sample; ``r`` is right."""
    rows = [
        {
            "query_id": f"q{i}",
            "query": f"question {i}",
            "model": name.split("/")[0],
            "strategy": name.split("/")[1],
            "answer": letter,
            "correct": float(letter == "r"),
            "sample_index": j,
            **({"cost_usd": 10.0 if name.startswith("large") else 1.0} if cost else {}),
        }
        for i, arms in enumerate(queries)
        for name, letters in arms.items()
        for j, letter in enumerate(letters)
    ]
    return OutcomeTable.from_rows(rows)


def replayed(found: OutcomeTable, cascade: str = CASCADE, orders: int = 1) -> CascadeReplay:
    """Replay a cascade by its text."""

    async def run() -> CascadeReplay:
        made = parse_escalation(cascade)
        kind = AnswerKind.EXPRESSION
        return await replay_cascade(made, found, kind, "large/cot", orders=orders)

    return anyio.run(run)


def test_agreement_ends_it_and_disagreement_escalates() -> None:
    """Costs are those of the samples that were drawn."""
    done = replayed(
        table(
            {"small/cot": "r", "small/code": "r", "large/cot": "w"},
            {"small/cot": "w", "small/code": "r", "large/cot": "r"},
            {"small/cot": "w", "small/code": "w", "large/cot": "r"},
            {"small/cot": "a", "small/code": "b", "large/cot": "w"},
        )
    )
    assert (done.accuracy, done.against_accuracy, done.escalated) == (0.5, 0.5, 0.5)
    assert (done.cost_usd, done.against_cost_usd, done.cost_share) == (7.0, 10.0, 0.7)


def test_an_arm_that_comes_twice_gives_another_sample() -> None:
    """And further orders shuffle each arm's samples."""
    cascade = "small/cot|direct then small/cot|direct then large/cot|direct"
    found = table({"small/cot": "ra", "large/cot": "w"})
    assert replayed(found, cascade).escalated == 1.0
    assert replayed(table({"small/cot": "rr", "large/cot": "w"}), cascade, 3).escalated == 0.0


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (table({"small/cot": "r", "large/cot": "r"}), "recorded are large/cot, small/cot"),
        (table({"small/cot": "r", "small/code": "r", "large/cot": "r"}, cost=False), "cost_usd"),
    ],
)
def test_what_cannot_be_replayed_is_an_error(found: OutcomeTable, reason: str) -> None:
    """With the arms that there are."""
    with pytest.raises(OutcomeError) as error:
        replayed(found)
    assert reason in str(error.value)


@pytest.mark.skipif(not MOT.exists(), reason="recorded samples are not here; set RHEOSTAT_DATA")
def test_agreement_of_gpt_35_then_gpt_4_reaches_gpt_4_on_dates() -> None:
    """At 45 per cent of its cost at most: one CoT and one program, in the recorded order."""
    small = "gpt-3.5-turbo/fs_{}1_sc|direct"
    cascade = f"{small.format('cot')} then {small.format('pot')} then gpt-4/fs_cot1_greedy|direct"
    arguments = ["--against", "gpt-4/fs_cot1_greedy", "--task", "date_understanding", "--json"]
    done = CliRunner().invoke(app, ["replay", "cascade", str(MOT), "-c", cascade, *arguments])
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert shown["n_queries"] == 172
    assert shown["accuracy"] >= shown["against_accuracy"]
    assert shown["cost_share"] <= 0.45
