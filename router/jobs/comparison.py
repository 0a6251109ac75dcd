"""Ask the same questions of several contestants through a running gateway, and compare them.

Everything here goes over HTTP with the OpenAI client, as any user's program would; grades are
posted back as feedback.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from router.questions.registry import grade

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from openai import AsyncOpenAI

    from router.questions.base import Question

Z_95 = 1.959963984540054
N_RESAMPLES = 2000
GRADER = "demo"


@dataclass(frozen=True, slots=True)
class Contestant:
    """A way of asking: a model's name or ``auto``, with a fixed strategy or None for ``auto``."""

    label: str
    model: str
    strategy: str | None = None


@dataclass(frozen=True, slots=True)
class Graded:
    """One graded answer. ``cost_usd`` is what the gateway said that it charged."""

    question: Question
    arm: str
    correct: bool
    cost_usd: Decimal
    latency_s: float
    difficulty: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """All graded answers of one contestant, in the order of the questions."""

    contestant: Contestant
    answers: tuple[Graded, ...]

    @property
    def n_correct(self) -> int:
        """How many answers were right."""
        return sum(answer.correct for answer in self.answers)

    @property
    def accuracy(self) -> float:
        """Share of right answers in [0, 1]."""
        return self.n_correct / len(self.answers)

    @property
    def cost_usd(self) -> Decimal:
        """Exact sum of what the answers cost."""
        return sum((answer.cost_usd for answer in self.answers), Decimal(0))

    @property
    def usd_per_correct(self) -> Decimal | None:
        """Cost per right answer; None when there was none."""
        return self.cost_usd / self.n_correct if self.n_correct else None

    @property
    def mean_latency_s(self) -> float:
        """Mean seconds from request to whole answer."""
        return sum(answer.latency_s for answer in self.answers) / len(self.answers)

    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy (Wilson 1927)."""
        return wilson(self.n_correct, len(self.answers))

    def arms(self) -> Counter[str]:
        """How often each arm answered."""
        return Counter(answer.arm for answer in self.answers)


def joined(first: Result, second: Result) -> Result:
    """Put the answers of one contestant to further questions behind the first ones."""
    return Result(first.contestant, (*first.answers, *second.answers))


def wilson(n_correct: int, n: int) -> tuple[float, float]:
    """Give the 95 % score interval of a proportion (Wilson 1927), within [0, 1], share inside."""
    share = n_correct / n
    spread = Z_95 * Z_95 / n
    centre = (share + spread / 2) / (1 + spread)
    half = Z_95 * sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def accuracy_gain(a: Result, b: Result, seed: int = 0) -> tuple[float, float, float]:
    """Accuracy of ``a`` minus that of ``b`` on the same questions, with a 95 % interval.

    The interval is a percentile bootstrap over questions (Efron 1979), paired.
    """
    differences = np.array(
        [float(x.correct) - float(y.correct) for x, y in zip(a.answers, b.answers, strict=True)]
    )
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(differences), size=(N_RESAMPLES, len(differences)))
    low, high = np.quantile(differences[draws].mean(axis=1), [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)


async def compare(  # noqa: PLR0913 - who asks whom what, how, and for how long
    client: AsyncOpenAI,
    contestants: Sequence[Contestant],
    questions: Sequence[Question],
    *,
    round_size: int,
    seconds: float,
    concurrency: int,
    progress: Callable[[Contestant, Graded], None],
) -> tuple[Result, ...]:
    """Ask round by round of every contestant in turn, until questions or time are over.

    A round is ``round_size`` questions, the same for each contestant, so that the results stay
    paired. The first round is always asked; another begins only if it is likely to end within
    ``seconds`` of wall time.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    results = [Result(contestant, ()) for contestant in contestants]
    for n_rounds, start in enumerate(range(0, len(questions), round_size)):
        spent_s = loop.time() - started
        if n_rounds and spent_s * (n_rounds + 1) / n_rounds > seconds:
            break
        asked = questions[start : start + round_size]
        for i, contestant in enumerate(contestants):
            told = partial(progress, contestant)
            fresh = await ask_all(client, contestant, asked, concurrency, told)
            results[i] = joined(results[i], fresh)
    return tuple(results)


async def ask_all(
    client: AsyncOpenAI,
    contestant: Contestant,
    questions: Sequence[Question],
    concurrency: int,
    progress: Callable[[Graded], None],
) -> Result:
    """Ask every question, at most ``concurrency`` at once; grade each and post the grade.

    The first error ends it: what is still being asked is cancelled, so that nothing more is spent.
    """
    slots = asyncio.Semaphore(concurrency)

    async def one(question: Question) -> Graded:
        async with slots:
            graded = await _ask(client, contestant, question)
        progress(graded)
        return graded

    tasks = [asyncio.ensure_future(one(question)) for question in questions]
    try:
        return Result(contestant, tuple(await asyncio.gather(*tasks)))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ask(client: AsyncOpenAI, contestant: Contestant, question: Question) -> Graded:
    compute: dict[str, Any] = {"answer_kind": question.kind.value}
    if contestant.strategy is not None:
        compute["strategy"] = contestant.strategy
    loop = asyncio.get_running_loop()
    started = loop.time()
    completion = await client.chat.completions.create(
        model=contestant.model,
        messages=[{"role": "user", "content": question.text}],
        extra_body={"compute": compute},
    )
    latency_s = loop.time() - started
    correct = grade(question, completion.choices[0].message.content or "") >= 1.0
    told = (completion.model_extra or {})["compute"]
    await client.post(
        "/feedback",
        body={"request_id": told["request_id"], "correct": correct, "grader": GRADER},
        cast_to=object,
    )
    return Graded(
        question=question,
        arm=told["arm"],
        correct=correct,
        cost_usd=Decimal(str(told["cost_usd"])),
        latency_s=latency_s,
        difficulty=told["difficulty"],
    )
