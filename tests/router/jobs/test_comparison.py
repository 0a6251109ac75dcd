"""Comparing contestants through a running gateway, and the intervals that are told of them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parts import catalog, price, scripted

from policies.types import AnswerKind
from router.errors import ProviderError
from router.gateway.app import create_app
from router.gateway.background import serving
from router.gateway.settings import GatewaySettings
from router.jobs.comparison import (
    Contestant,
    Graded,
    Result,
    accuracy_gain,
    ask_all,
    compare,
    joined,
    wilson,
)
from router.providers.scripted import Reply
from router.providers.simulated import build_simulated
from router.questions.base import Question
from router.questions.registry import generate, grade
from router.routing.catalog import Model
from router.routing.chooser import Chooser, ChooserSettings
from router.routing.service import RoutingService
from storage.outcomes import read_episodes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.routing.catalog import Catalog
    from storage.store import Ledger

QUESTION = Question("q", "own", 1, "what is 2 + 2 ?", "4", AnswerKind.NUMBER, 0.5)
SMALL = Contestant("small", "small", "direct")


def result(
    corrects: Sequence[int],
    costs: Sequence[str] | None = None,
    contestant: Contestant = SMALL,
) -> Result:
    """Give a contestant's result from what was right and what it cost."""
    spent = costs or ["0.001"] * len(corrects)
    return Result(
        contestant,
        tuple(
            Graded(QUESTION, f"{contestant.model}|direct", bool(right), Decimal(usd), 0.5 + i, None)
            for i, (right, usd) in enumerate(zip(corrects, spent, strict=True))
        ),
    )


# Figures


@pytest.mark.parametrize(
    ("n_correct", "n", "low", "high"),
    [
        pytest.param(8, 10, 0.490162, 0.943318, id="8 of 10"),
        pytest.param(50, 100, 0.403832, 0.596168, id="50 of 100"),
        pytest.param(0, 10, 0.0, 0.277533, id="none"),
        pytest.param(10, 10, 0.722467, 1.0, id="all"),
        pytest.param(1, 1, 0.206549, 1.0, id="one of one"),
    ],
)
def test_the_score_interval_by_hand(n_correct: int, n: int, low: float, high: float) -> None:
    """With z = 1.95996: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)."""
    assert wilson(n_correct, n) == pytest.approx((low, high), abs=1e-6)


@given(n=st.integers(1, 500), data=st.data())
def test_the_score_interval_is_where_the_score_test_does_not_reject(
    n: int, data: st.DataObject
) -> None:
    """Each end p solves (share - p)^2 = z^2 p (1 - p) / n, Wilson's definition."""
    n_correct = data.draw(st.integers(0, n))
    share = n_correct / n
    low, high = wilson(n_correct, n)
    assert 0 <= low <= share <= high <= 1
    for end in (low, high):
        assert (share - end) ** 2 == pytest.approx(3.841459 * end * (1 - end) / n, abs=1e-6)


def test_the_gain_is_paired_by_question() -> None:
    """Two that are right on the same questions differ by nothing, with certainty."""
    same = [1, 0, 1, 1, 0] * 8
    assert accuracy_gain(result(same), result(same)) == (0.0, 0.0, 0.0)
    assert accuracy_gain(result([1] * 9), result([0] * 9)) == (1.0, 1.0, 1.0)


def test_the_bootstrap_interval_is_that_of_the_mean_difference() -> None:
    """Of 400 differences, 100 are 1 and 40 are -1: 0.15 +- 1.96 sqrt(0.35 - 0.15^2) / 20."""
    a = [1] * 100 + [0] * 40 + [1] * 260
    b = [0] * 100 + [1] * 40 + [1] * 260
    gain, low, high = accuracy_gain(result(a), result(b), seed=1)
    half = 1.959964 * np.sqrt(0.35 - 0.15**2) / 20
    assert gain == pytest.approx(0.15)
    assert (low, high) == pytest.approx((0.15 - half, 0.15 + half), abs=0.006)
    back = accuracy_gain(result(b), result(a), seed=1)
    assert back[0] == -gain
    assert (back[1], back[2]) == pytest.approx((-high, -low))
    assert accuracy_gain(result(a), result(b), seed=1) == (gain, low, high)


def test_results_of_different_questions_are_not_compared() -> None:
    """A pair is missing: an error, not a wrong figure."""
    with pytest.raises(ValueError, match="shorter"):
        accuracy_gain(result([1, 0]), result([1]))


def test_the_figures_of_a_result() -> None:
    """Costs add up exactly; a cost per right answer needs one."""
    some = result([1, 0, 1], ["0.1", "0.2", "0.000000001"])
    assert (some.n_correct, some.accuracy) == (2, pytest.approx(2 / 3))
    assert some.cost_usd == Decimal("0.300000001")
    assert some.usd_per_correct == Decimal("0.1500000005")
    assert some.mean_latency_s == pytest.approx(1.5)
    assert some.interval() == wilson(2, 3)
    assert some.arms() == {"small|direct": 3}
    assert result([0, 0]).usd_per_correct is None
    both = joined(some, result([0]))
    assert [answer.correct for answer in both.answers] == [True, False, True, False]


# Over a gateway


class Asked:
    """A gateway over a ledger for OpenAI's client, as any user's program would ask it."""

    def __init__(self, ledger: Ledger, found: Catalog) -> None:
        self.ledger = ledger
        chooser = Chooser(found, ChooserSettings(exploration=0.0))
        service = RoutingService(found, chooser, ledger)
        self.app = create_app(
            service, GatewaySettings(), on_start=service.start, on_stop=service.aclose
        )

    def client(self, base_url: str) -> openai.AsyncOpenAI:
        """Give a client that asks once."""
        return openai.AsyncOpenAI(
            base_url=f"{base_url}/v1",
            api_key="any",
            max_retries=0,
            http_client=httpx.AsyncClient(trust_env=False),
        )


@pytest.mark.anyio
async def test_contestants_are_asked_graded_and_paid_as_the_ledger_says(
    sqlite_ledger: Ledger,
) -> None:
    """Each question of each contestant is one graded entry, at the cost that was told."""
    questions = generate(12, seed=2, families=["add", "letters", "countdown"])
    models = [
        Model(name, build_simulated(name, name, questions), price(times))
        for name, times in (("small", 1), ("large", 20))
    ]
    asked = Asked(sqlite_ledger, catalog(*models))
    contestants = (SMALL, Contestant("large", "large", "direct"), Contestant("auto", "auto"))
    told: list[tuple[str, Graded]] = []
    with serving(asked.app) as base_url:
        async with asked.client(base_url) as client:
            results = await compare(
                client,
                contestants,
                questions,
                round_size=5,
                seconds=1000,
                concurrency=4,
                progress=lambda contestant, graded: told.append((contestant.label, graded)),
            )
    small, large, auto = results
    assert [r.contestant for r in results] == list(contestants)
    for each in results:
        assert [answer.question for answer in each.answers] == questions
    assert small.arms() == {"small|direct": 12}
    assert large.arms() == auto.arms() == {"large|direct": 12}
    assert large.n_correct > small.n_correct
    assert len(told) == 36
    episodes = sqlite_ledger.read(lambda session: list(read_episodes(session)))
    assert len(episodes) == 36
    of_small = [e for e in episodes if e.decision.arm.model == "small"]
    assert small.n_correct == sum(e.outcome.quality or 0.0 for e in of_small)
    everything = sum((each.cost_usd for each in results), Decimal(0))
    nano_usd = [round(episode.outcome.cost_usd * 1e9) for episode in episodes]
    assert everything == Decimal(sum(nano_usd)).scaleb(-9)
    assert all(-answer.cost_usd.as_tuple().exponent <= 9 for answer in small.answers)  # type: ignore[operator] - finite
    assert sqlite_ledger.examine() == []


@pytest.mark.anyio
async def test_another_round_begins_only_if_there_is_time(sqlite_ledger: Ledger) -> None:
    """The first round is always asked, and its results stay paired."""
    questions = generate(6, seed=2, families=["add"])
    asked = Asked(sqlite_ledger, catalog(scripted("small")))
    arguments: dict[str, Any] = {"round_size": 2, "seconds": 0.0, "concurrency": 2}
    with serving(asked.app) as base_url:
        async with asked.client(base_url) as client:
            (found,) = await compare(
                client, [SMALL], questions, progress=lambda _who, _graded: None, **arguments
            )
    assert [answer.question for answer in found.answers] == questions[:2]
    assert [answer.correct for answer in found.answers] == [
        grade(question, "4") == 1.0 for question in questions[:2]
    ]


@pytest.mark.anyio
async def test_the_first_error_ends_the_asking(sqlite_ledger: Ledger) -> None:
    """Nothing more is spent once it is known that there will be no result."""
    questions = generate(8, seed=2, families=["add"])
    replies = [Reply("4"), ProviderError("small", "it is gone", status=500)]
    replies += [Reply("4", delay_s=30) for _ in range(6)]
    model = scripted("small", replies)
    asked = Asked(sqlite_ledger, catalog(model))
    with serving(asked.app) as base_url:
        async with asked.client(base_url) as client:
            with pytest.raises(openai.InternalServerError, match="it is gone"):
                await ask_all(client, SMALL, questions, 2, lambda _graded: None)
    episodes = sqlite_ledger.read(lambda session: list(read_episodes(session)))
    assert len(episodes) <= 3
    assert sqlite_ledger.examine() == []
