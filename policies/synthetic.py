"""A made-up world whose truth is known: models, prices, tenants, and what happens over some weeks.

Arms answer by the two-parameter logistic model of item response theory (Birnbaum 1968): a sample of
an arm is right with probability ``sigmoid(DISCRIMINATION * (skill - difficulty))``. A vote of three
is right where two are, as if all wrong samples agreed; best-of-3 finds a right sample that is there
with probability `JUDGE_SKILL`. `policies.synthetic_traffic` draws requests from it, so that every
estimate can be held against what is true. Nothing here comes from a language model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np

from cost_models.pricing import DatedPrice, Price, PriceBook
from cost_models.types import Arm

if TYPE_CHECKING:
    from numpy.typing import NDArray

DISCRIMINATION = 8.0
JUDGE_SKILL = 0.7
NANO_PER_RATE = 1_000
"""Nano-USD per token for each USD per million tokens."""
PRICE_SOURCE = "simulated"
PINNED, BASELINE = Arm("sim-medium", "direct"), Arm("sim-large", "direct")


@dataclass(frozen=True, slots=True)
class SyntheticArm:
    """An arm with its truth: ``skill`` on the scale of difficulty, and how long its answers are.

    ``tokens`` is the mean length of a sample, of which ``reasoning_share`` is hidden reasoning.
    ``judged`` says that one more call judges the ``samples``.
    """

    arm: Arm
    skill: float
    tokens: float
    samples: int = 1
    reasoning_share: float = 0.0
    judged: bool = False


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who asks: its ``share`` of the traffic, and how much harder than others its questions are.

    A ``team`` of None leaves its spend untagged.
    """

    name: str
    team: str | None
    share: float
    harder: float
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PriceStep:
    """From day ``day`` on, ``model`` costs so many USD per million tokens read and written."""

    day: int
    model: str
    read: Decimal
    written: Decimal


def _arms() -> tuple[SyntheticArm, ...]:
    models = (("sim-small", 0.30, 0.12, 0.0), ("sim-medium", 0.48, 0.18, 0.0))
    made: list[SyntheticArm] = []
    for model, skill, boost, hidden in (*models, ("sim-large", 0.68, 0.22, 0.6)):
        made += [
            SyntheticArm(Arm(model, "direct"), skill, 40),
            SyntheticArm(Arm(model, "cot"), skill + boost, 220, reasoning_share=hidden),
            SyntheticArm(Arm(model, "self_consistency(samples=3)"), skill + boost, 220, 3),
        ]
    judged = Arm("sim-medium", "best_of_n(samples=3, verifier='self_judge')")
    return (*made, SyntheticArm(judged, 0.66, 220, 3, judged=True))


TENANTS = (
    Tenant("key:support", "support", 0.4, -0.10, ("bot",)),
    Tenant("key:search", "search", 0.25, 0.0, ("live",)),
    Tenant("key:research", "research", 0.15, 0.15, ("batch", "papers")),
    Tenant("key:finance", "finance", 0.12, 0.05),
    Tenant("key:lab", None, 0.08, 0.0),
)


@dataclass(frozen=True, slots=True)
class World:
    """All that is true of a simulation; equal worlds give equal ledgers.

    Days count from ``start`` (UTC). The policy takes the arm with the best
    ``probability - shadow_price * USD`` by its own estimate of difficulty, which is off by
    ``estimate_error``, but any arm with probability ``epsilon``; ``pinned_share`` of the requests
    name ``pinned`` themselves. In ``incident`` hours of `incident_day`, ``broken_model`` fails.
    From `drift_day` on questions are ``drift`` harder. ``grade_share`` of the easiest answers and
    ``grade_share + grade_more`` of the hardest are graded.
    """

    start: date
    days: int = 90
    requests_per_day: int = 1000
    seed: int = 0
    arms: tuple[SyntheticArm, ...] = field(default_factory=_arms)
    tenants: tuple[Tenant, ...] = TENANTS
    epsilon: float = 0.1
    pinned_share: float = 0.05
    pinned: Arm = PINNED
    baseline: Arm = BASELINE
    shadow_price: tuple[float, float] = (300.0, 220.0)
    estimate_error: float = 0.08
    drift: float = 0.08
    broken_model: str = "sim-medium"
    incident: tuple[int, int] = (9, 15)
    grade_share: float = 0.03
    grade_more: float = 0.07
    refused_share: float = 0.002
    weekend: float = 0.45
    growth: float = 0.3

    def __post_init__(self) -> None:
        if self.days < 1 or self.requests_per_day < 1:
            msg = (
                f"a simulation needs a day and a request, got {self.days}, {self.requests_per_day}"
            )
            raise ValueError(msg)
        if not 0.0 < self.epsilon <= 1.0:
            msg = f"epsilon must be in (0, 1] or nothing is learnt, got {self.epsilon}"
            raise ValueError(msg)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, the cheapest first."""
        return tuple(dict.fromkeys(known.arm.model for known in self.arms))

    @property
    def policy_day(self) -> int:
        """Day on which the second policy, with the second shadow price, goes into service."""
        return self.days // 3

    @property
    def incident_day(self) -> int:
        """Day of the incident."""
        return (7 * self.days) // 10

    @property
    def drift_day(self) -> int:
        """First day of harder questions."""
        return (3 * self.days) // 5

    @property
    def price_steps(self) -> tuple[PriceStep, ...]:
        """Every price, with the day from which it holds."""
        return (
            PriceStep(0, "sim-small", Decimal("0.1"), Decimal("0.4")),
            PriceStep(0, "sim-medium", Decimal("0.5"), Decimal(2)),
            PriceStep(0, "sim-large", Decimal(3), Decimal(12)),
            PriceStep(self.days // 2, "sim-large", Decimal(2), Decimal(8)),
            PriceStep((4 * self.days) // 5, "sim-small", Decimal("0.12"), Decimal("0.5")),
        )

    @property
    def prices(self) -> PriceBook:
        """The same as a price book; what is read from a cache costs half."""
        return PriceBook(
            tuple(
                DatedPrice(
                    step.model,
                    Price(
                        input_usd_per_million_tokens=step.read,
                        output_usd_per_million_tokens=step.written,
                        cached_input_usd_per_million_tokens=step.read / 2,
                        source=PRICE_SOURCE,
                    ),
                    self.date_of(step.day) if step.day else None,
                )
                for step in self.price_steps
            )
        )

    def date_of(self, day: int) -> date:
        """Give the date of a day."""
        return self.start + timedelta(days=day)

    def policy_version(self, day: int) -> str:
        """Name the policy in service."""
        return f"simulated-{1 + (day >= self.policy_day)}"

    def rates(self, day: int) -> NDArray[np.int64]:
        """Nano-USD per token read and written, of shape (n_models, 2); all are even."""
        found = np.zeros((len(self.models), 2), dtype=np.int64)
        for step in self.price_steps:
            if step.day <= day:
                found[self.models.index(step.model)] = (
                    int(step.read * NANO_PER_RATE),
                    int(step.written * NANO_PER_RATE),
                )
        return found

    def model_of_arm(self) -> NDArray[np.intp]:
        """Give the number of each arm's model; shape (n_arms,)."""
        return np.array([self.models.index(known.arm.model) for known in self.arms])

    def index(self, arm: Arm) -> int:
        """Give the number of an arm; ValueError for one that is not there."""
        return [known.arm for known in self.arms].index(arm)

    def probability(self, difficulty: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability that each arm's answer is right, where it gives one; shape (n, n_arms)."""
        skill = np.array([known.skill for known in self.arms])
        one = 1.0 / (1.0 + np.exp(-DISCRIMINATION * (skill - difficulty[:, None])))
        several = np.array([known.samples > 1 for known in self.arms])
        judged = np.array([known.judged for known in self.arms])
        voted = one**2 * (3.0 - 2.0 * one)
        found = one + JUDGE_SKILL * (1.0 - (1.0 - one) ** 3 - one)
        return np.where(judged, found, np.where(several, voted, one))

    def volume(self, day: int) -> NDArray[np.float64]:
        """Give the expected requests in each of the 24 hours of a day (UTC)."""
        hours = np.arange(24)
        rhythm = 0.35 + np.exp(-0.5 * ((hours - 14.0) / 4.0) ** 2)
        week = self.weekend if self.date_of(day).weekday() >= 5 else 1.0  # noqa: PLR2004 - Saturday
        grown = 1.0 + self.growth * (day / self.days - 0.5)
        return np.asarray(self.requests_per_day * week * grown * rhythm / rhythm.sum())
