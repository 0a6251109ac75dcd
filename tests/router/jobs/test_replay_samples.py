"""Strategies over recorded samples."""

from __future__ import annotations

import json
import os
from pathlib import Path

import anyio
import pytest
from typer.testing import CliRunner

from cost_models.pricing import Price
from policies.errors import OutcomeError
from policies.outcomes import OutcomeTable, read_outcomes
from policies.types import AnswerKind
from router.cli.main import app
from router.errors import ProviderError
from router.jobs.replay_samples import SampleReplay, replay_samples
from router.providers.metered import Allowance, Meter
from router.providers.recorded import Recorded, RecordedProvider
from router.strategies.registry import parse_strategy
from router.types import Message, SampleRequest

DATA = Path(os.environ.get("RHEOSTAT_DATA", Path(__file__).parents[3].parent / "shared" / "data"))
ESC = DATA / "esc_samples.parquet"


def table(*answers: str) -> OutcomeTable:
    """Record one query for each text of letters; ``r`` is right, ``.`` cannot be read."""
    rows = [
        {
            "query_id": f"q{i}",
            "query": f"question {i}",
            "model": "m",
            "strategy": "s",
            "answer": None if letter == "." else letter,
            "correct": float(letter == "r"),
            "sample_index": j,
            "completion_tokens": 10,
        }
        for i, letters in enumerate(answers)
        for j, letter in enumerate(letters)
    ]
    return OutcomeTable.from_rows(rows)


def replayed(text: str, found: OutcomeTable, orders: int = 1) -> SampleReplay:
    """Run a strategy by its text."""

    async def run() -> SampleReplay:
        strategy = parse_strategy(text)
        return await replay_samples(strategy, found, AnswerKind.EXPRESSION, orders=orders)

    return anyio.run(run)


def test_a_full_vote_is_the_recorded_vote() -> None:
    """Unreadable samples have no vote; a tie goes to the earliest."""
    done = replayed(
        "self_consistency(samples=4, stop_at=1.0)", table("rrww", "wrrw", "..rw", "www.")
    )
    assert (done.accuracy, done.vote, done.n_queries) == (0.5, 0.5, 4)
    assert done.single == pytest.approx((0.5 + 0.5 + 0.25 + 0) / 4)
    assert (done.drawn, done.recorded, done.saved) == (4, 4, 0.0)
    assert done.completion_tokens == 40


def test_a_strategy_that_stops_early_draws_fewer() -> None:
    """Agreement ends it, and what it did not draw is saved."""
    done = replayed("self_consistency(samples=9, batch=1)", table("rrrrrrrrr", "wwwwwwwww"))
    assert (done.accuracy, done.vote) == (0.5, 0.5)
    assert done.drawn == 4
    assert done.saved == pytest.approx(5 / 9)


def test_further_orders_are_shuffled_and_averaged() -> None:
    """The first sample alone depends on the order; three orders of one query are a mean."""
    found = table("rwwwwwww")
    assert replayed("direct", found).accuracy == 1.0
    many = replayed("direct", found, orders=40)
    assert 0.0 < many.accuracy < 0.5
    assert many == replayed("direct", found, orders=40)


def test_what_cannot_be_replayed_is_said() -> None:
    """Too few samples for the table, or for the strategy; another kind."""
    with pytest.raises(OutcomeError, match="two graded samples"):
        replayed("direct", table("r", "w"))
    done = replayed("self_consistency(samples=8, stop_at=1.0, batch=8)", table("rrww"))
    assert done.drawn == 4


def test_the_provider_gives_each_sample_once_with_its_usage() -> None:
    """Then it is a provider that fails."""
    provider = RecordedProvider(
        "m",
        [Recorded(f"a{i}", correct=True, prompt_tokens=7, completion_tokens=i) for i in range(3)],
    )
    meter = Meter(provider, Price(free=True), Allowance())
    request = SampleRequest((Message("user", "?"),), 100, n=2)

    async def run() -> list[str]:
        first = await meter.sample(request)
        second = await meter.sample(request)
        with pytest.raises(ProviderError, match="only 3 samples"):
            await meter.sample(request)
        return [sample.text for sample in (*first, *second)]

    assert anyio.run(run) == ["a0", "a1", "a2"]
    assert (meter.usage.prompt_tokens, meter.usage.completion_tokens) == (14, 3)


def test_the_command(tmp_path: Path) -> None:
    """JSON and a sentence; a kind that cannot be replayed is refused."""
    file = tmp_path / "samples.jsonl"
    table("rrww", "wrrr").write_jsonl(file)
    typed = ["replay", "samples", str(file), "-s", "self_consistency(samples=4)"]
    told = json.loads(CliRunner().invoke(app, [*typed, "--json"]).output)
    assert (told["n_queries"], told["accuracy"], told["vote"]) == (2, 1.0, 1.0)
    assert "100.0% right" in CliRunner().invoke(app, typed).output
    assert CliRunner().invoke(app, [*typed, "--kind", "code"]).exit_code == 1


@pytest.mark.skipif(not ESC.is_file(), reason="needs the recorded data")
def test_adaptive_voting_on_last_letters_saves_three_quarters_at_a_fifth_of_a_point() -> None:
    """256 queries, 40 recorded samples each, in the recorded order."""
    strategy = "self_consistency(samples=40, stop_at=0.98, batch=1)"
    done = replayed(strategy, read_outcomes(ESC, ("last_letters",)))
    assert done.n_queries == 256
    assert done.saved >= 0.75
    assert done.vote - done.accuracy <= 0.002 + 1e-9
