"""Requests of a made-up world, a day at a time: what is asked, picked, used, paid and graded.

What every arm would have cost and answered is drawn for each request, not only for the one that was
picked, so that what another policy would have done is known and not estimated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.synthetic import World

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Flags = NDArray[np.bool_]

FAILURES = 0.003
BROKEN, DOUBTED, LOST = 0.45, 0.12, 0.03
"""Shares of the calls to a broken model that fail, are in doubt, or are lost in a crash."""
SESSION_SIZE = 3.0
SESSION_SPREAD = 0.08
MOST_TOKENS = 1024
"""Cap of each sample: what is held for it."""
JUDGE_TOKENS = 24
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """The requests of one day, in order of time; arrays of length n, or of shape (n, n_arms).

    ``difficulty`` is true and ``estimate`` is what the policy saw. ``arm`` is the number of the
    arm that ran, and what has a column for every arm is what each would have done: ``prompt`` and
    ``completion`` tokens of one sample, ``cost`` in nano-USD if nothing is in doubt, ``correct``
    (False where it fails), ``failed``. ``in_doubt`` and ``lost`` requests are charged their
    ``hold``. ``grade_prob`` is how likely an answer was to be graded, ``graded`` whether it was.
    """

    day: int
    time_s: Floats
    tenant: NDArray[np.intp]
    session: NDArray[np.intp]
    question: NDArray[np.intp]
    difficulty: Floats
    estimate: Floats
    arm: NDArray[np.intp]
    propensity: Floats
    pinned: Flags
    refused: Flags
    predicted_quality: Floats
    predicted_cost_usd: Floats
    cached: Ints
    prompt: Ints
    completion: Ints
    cost: Ints
    correct: Flags
    failed: Flags
    in_doubt: Flags
    lost: Flags
    hold: Ints
    grade_prob: Floats
    graded: Flags

    @property
    def charged(self) -> Ints:
        """Nano-USD that each request is charged; 0 where it was refused."""
        rows = np.arange(len(self.arm))
        spent = np.where(self.in_doubt | self.lost, self.hold, self.cost[rows, self.arm])
        return np.where(self.refused, 0, spent)

    @property
    def answered(self) -> Flags:
        """Which requests got an answer."""
        rows = np.arange(len(self.arm))
        return ~(self.refused | self.in_doubt | self.lost | self.failed[rows, self.arm])


def day_of_traffic(world: World, day: int, difficulties: Floats) -> Traffic:
    """Draw one day's requests about a bank of questions, whose ``difficulties`` ascend in [0, 1].

    The same world, day and bank give the same requests.
    """
    rng = np.random.default_rng([world.seed, day])
    counts = rng.poisson(world.volume(day))
    hour = np.repeat(np.arange(24), counts)
    n = len(hour)
    session = _sessions(rng, hour)
    tenant, difficulty, question = _questions(rng, world, day, session, difficulties)
    time_s = np.sort(hour * HOUR_S + rng.uniform(0.0, HOUR_S, n))
    estimate = np.clip(difficulty + rng.normal(0.0, world.estimate_error, n), 0.0, 1.0)
    prompt, cached, completion = _tokens(rng, world, n)
    broken = _broken(world, day, hour)
    failing = rng.uniform(size=(n, len(world.models)))
    failed = (failing < np.where(broken, BROKEN, FAILURES))[:, world.model_of_arm()]
    cost, hold = _costs(world, day, prompt, cached, completion, failed)
    expected = _expected_usd(world, day)
    quality = world.probability(estimate)
    arm, propensity, pinned = _choices(rng, world, day, quality, expected)
    rows = np.arange(n)
    fate = rng.uniform(size=n)
    hit = broken[rows, world.model_of_arm()[arm]] & ~failed[rows, arm]
    refused = rng.uniform(size=n) < world.refused_share
    grade_prob = world.grade_share + world.grade_more * estimate
    traffic = Traffic(
        day=day,
        time_s=time_s,
        tenant=tenant,
        session=session,
        question=question,
        difficulty=difficulty,
        estimate=estimate,
        arm=arm,
        propensity=propensity,
        pinned=pinned,
        refused=refused,
        predicted_quality=quality[rows, arm],
        predicted_cost_usd=expected[arm],
        cached=cached,
        prompt=prompt,
        completion=completion,
        cost=cost,
        correct=(rng.uniform(size=n)[:, None] < world.probability(difficulty)) & ~failed,
        failed=failed,
        in_doubt=hit & (fate < DOUBTED),
        lost=hit & (fate >= DOUBTED) & (fate < DOUBTED + LOST),
        hold=hold[rows, arm],
        grade_prob=grade_prob,
        graded=np.zeros(n, dtype=bool),
    )
    traffic.graded[:] = traffic.answered & (rng.uniform(size=n) < grade_prob)
    return traffic


def _sessions(rng: np.random.Generator, hour: NDArray[np.intp]) -> NDArray[np.intp]:
    """Put the requests of each hour into sessions of about `SESSION_SIZE`."""
    n_of_hour = np.bincount(hour, minlength=24)
    n_sessions = np.maximum(1, np.ceil(n_of_hour / SESSION_SIZE)).astype(np.intp)
    first = np.concatenate([[0], np.cumsum(n_sessions)[:-1]])
    within = np.floor(rng.uniform(size=len(hour)) * n_sessions[hour]).astype(np.intp)
    return np.asarray(first[hour] + within)


def _questions(
    rng: np.random.Generator, world: World, day: int, session: NDArray[np.intp], bank: Floats
) -> tuple[NDArray[np.intp], Floats, NDArray[np.intp]]:
    """Draw each request's tenant, difficulty and question; those of a session are alike."""
    n_sessions = int(session.max(initial=-1)) + 1
    shares = np.array([tenant.share for tenant in world.tenants])
    of_session = rng.choice(len(shares), n_sessions, p=shares / shares.sum())
    spread = rng.normal(0.0, SESSION_SPREAD, n_sessions)
    tenant = of_session[session]
    harder = np.array([tenant.harder for tenant in world.tenants])[tenant]
    drift = world.drift if day >= world.drift_day else 0.0
    wanted = rng.beta(2.0, 2.2, len(session)) + harder + spread[session] + drift
    at = np.searchsorted(bank, np.clip(wanted, 0.0, 1.0)).clip(0, len(bank) - 1)
    question = (at + rng.integers(0, 1 + len(bank) // 50, len(session))).clip(0, len(bank) - 1)
    return tenant, bank[question], question


def _tokens(rng: np.random.Generator, world: World, n: int) -> tuple[Ints, Ints, Ints]:
    """Draw tokens of a prompt, of it those in a cache, and of one sample by each arm."""
    prompt = rng.lognormal(5.3, 0.5, n).clip(20, 4000).astype(np.int64)
    cached = np.where(rng.uniform(size=n) < 0.2, prompt // 2, 0)  # noqa: PLR2004 - a fifth
    mean = np.array([known.tokens for known in world.arms])
    length = rng.lognormal(0.0, 0.35, (n, len(mean))) * mean
    return prompt, cached, length.clip(2, MOST_TOKENS).astype(np.int64)


def _broken(world: World, day: int, hour: NDArray[np.intp]) -> Flags:
    """Say which model is broken at each request; shape (n, n_models)."""
    begin, end = world.incident
    now = (day == world.incident_day) & (hour >= begin) & (hour < end)
    model = np.array([name == world.broken_model for name in world.models])
    return np.asarray(now[:, None] & model[None, :])


def _costs(  # noqa: PLR0913, PLR0917 - tokens of each class, at the prices of a day
    world: World, day: int, prompt: Ints, cached: Ints, completion: Ints, failed: Flags
) -> tuple[Ints, Ints]:
    """Give what each arm costs each request, and what is held for it; nano-USD, (n, n_arms)."""
    rates = world.rates(day)[world.model_of_arm()]
    read, written = rates[:, 0], rates[:, 1]
    samples = np.array([known.samples for known in world.arms])
    judged = np.array([known.judged for known in world.arms])
    asked = prompt[:, None] * read - cached[:, None] * (read // 2)
    judge = judged * (asked + JUDGE_TOKENS * written)
    whole = samples * (asked + completion * written) + judge
    most = samples * (prompt[:, None] * read + MOST_TOKENS * written)
    hold = most + judged * (prompt[:, None] * read + JUDGE_TOKENS * written)
    return np.where(failed, asked, whole), hold


def _expected_usd(world: World, day: int) -> Floats:
    """Give what the policy takes each arm to cost in USD; shape (n_arms,)."""
    prompt = np.full(1, 227, dtype=np.int64)
    completion = np.array([[int(known.tokens * 1.06) for known in world.arms]])
    nothing = np.zeros((1, len(world.arms)), dtype=bool)
    cost, _ = _costs(world, day, prompt, prompt // 10, completion, nothing)
    return np.asarray(cost[0] / 1e9)


def _choices(
    rng: np.random.Generator, world: World, day: int, quality: Floats, expected: Floats
) -> tuple[NDArray[np.intp], Floats, Flags]:
    """Pick an arm for each request: by name, by the policy, or by chance."""
    n, n_arms = quality.shape
    price = world.shadow_price[day >= world.policy_day]
    best = np.argmax(quality - price * expected, axis=1)
    explores = rng.uniform(size=n) < world.epsilon
    arm = np.where(explores, rng.integers(0, n_arms, n), best)
    share = world.epsilon / n_arms
    propensity = np.where(arm == best, 1.0 - world.epsilon + share, share)
    pinned: Flags = np.asarray(rng.uniform(size=n) < world.pinned_share)
    return (
        np.where(pinned, world.index(world.pinned), arm),
        np.where(pinned, 1.0, propensity),
        pinned,
    )
