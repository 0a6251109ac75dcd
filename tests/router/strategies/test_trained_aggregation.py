"""The strategy around a trained aggregator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from cost_models.pricing import Price
from policies.aggregation import Aggregator
from policies.sample_sets import FEATURES
from policies.types import AnswerKind
from router.errors import StrategyConfigError
from router.providers.metered import Allowance, Meter
from router.providers.scripted import ScriptedProvider
from router.strategies.registry import parse_strategy
from router.types import Answer, Message, Task

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio
TASK = Task((Message("user", "6 * 7?"),), AnswerKind.NUMBER, max_tokens=100, seed=0)


def likes(tmp_path: Path, feature: str, *, with_score: bool = False) -> str:
    """Write an aggregator that looks at one feature alone."""
    weights = np.array([float(name == feature) for name in FEATURES])
    n = len(FEATURES)
    made = Aggregator(np.zeros(n), np.ones(n), weights, 0.0, {"with_score": with_score})
    file = tmp_path / f"{feature}.json"
    made.write(file)
    return str(file)


async def run(replies: list[str], **parameters: object) -> Answer:
    """Run the strategy."""
    strategy = parse_strategy({"trained_aggregation": {"samples": len(replies), **parameters}})
    meter = Meter(ScriptedProvider(replies), Price(free=True), Allowance())
    return await strategy.run(TASK, meter)


async def test_the_file_decides_what_is_looked_at(tmp_path: Path) -> None:
    """Votes, lengths and scores each pick another answer; without a file it is the vote."""
    long = "I think a very long time about this and then say: 3"
    replies = ["Answer: 2", "Answer: 2.0", "6 * 7 = 42\nAnswer: 42", long]
    answer = await run(replies)
    assert (answer.value, answer.confidence) == ("2", 0.5)
    assert (await run(replies, file=likes(tmp_path, "vote_share"))).value == "2"
    assert (await run(replies, file=likes(tmp_path, "n_tokens"))).value == "2"
    assert (await run(replies, file=likes(tmp_path, "tokens_z"))).value == "3"
    scored = likes(tmp_path, "mean_score", with_score=True)
    judged = await run(replies, file=scored, verifier="arithmetic")
    assert judged.value == "42"
    assert judged.confidence == pytest.approx(1 / (1 + np.exp(-1.0)))


def test_a_file_that_cannot_be_used_is_refused_at_start(tmp_path: Path) -> None:
    """Never at the first request."""
    for parameters, problem in (
        ({"file": str(tmp_path / "none")}, "is no aggregator"),
        ({"file": likes(tmp_path, "score_z", with_score=True)}, "set a verifier"),
        ({"verifier": "nonne"}, "there is no verifier"),
    ):
        with pytest.raises(StrategyConfigError, match=problem):
            parse_strategy({"trained_aggregation": parameters})
