"""From offered arms to a decision: the estimator's forecast, and the policy in service.

Before anything was fitted the safe arm serves, the others now and then, so that their outcomes can
be learned from. What this process has seen of latencies is used where an arm's speed is not known.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from cost_models.estimates import expected_usd
from cost_models.money import NANO_PER_USD
from cost_models.types import Arm, PricedArm
from policies.base import Forecast
from policies.base import Limits as PolicyLimits
from policies.errors import NoAffordableArmError, PolicyNotReadyError
from policies.fixed import FixedPolicy, SafePolicy
from policies.posing import posed
from policies.types import Shadowed
from policies.utility import UtilityPolicy
from router.errors import RequestError
from router.routing.candidates import likely_prompt_tokens
from router.routing.judges import Judges, predicted
from router.routing.types import AUTO, AUTO_POLICY, Candidate, Plan, policy_named
from storage.policies import find_policy, policy_in_service, read_policy
from storage.trials import running_trial

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from cost_models.estimates import CallBound
    from policies.artifacts import FittedPolicy
    from policies.base import Policy
    from policies.predictor import Prediction, Predictor
    from policies.types import Decision
    from router.routing.candidates import Offer
    from router.routing.catalog import Catalog
    from router.routing.types import ChatRequest
    from storage.forecasts import Outlook
    from storage.policies import StoredPolicy
    from storage.store import Ledger

USUAL_SHARE = 0.4
"""Share of its token cap that a completion is expected to use while nothing was fitted."""

MEMORY = 0.1
"""Weight of the newest latency in an arm's moving average."""

MAX_NAMED = 16
"""Policies that are kept ready for requests that name them; the one read first goes first."""

STEPS = "cot"


@dataclass(frozen=True, slots=True)
class ChooserSettings:
    """What the operator fixes; None leaves it to the fitted policy.

    ``exploration`` in [0, 1] is the share of uniform picks. ``accuracy_target`` in (0, 1] and
    ``shadow_price_per_usd`` >= 0 replace what the policy was tuned to.
    """

    exploration: float | None = None
    accuracy_target: float | None = None
    shadow_price_per_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One request's offers with all that is forecast of them, and the policy to choose by.

    ``shadow`` is the same by a policy on trial, whose pick is written down and never run. ``pace``
    is what the policy was paced by, if it was.
    """

    request: ChatRequest
    offers: tuple[Offer, ...]
    priced: tuple[PricedArm, ...]
    prediction: Prediction | None
    policy: Policy
    rng: np.random.Generator
    shadow: Choice | None = None
    pace: Outlook | None = None

    def decide(self) -> Decision:
        """Choose among the feasible offers.

        Raises RequestError when no arm can serve the request as it is written, and
        NoAffordableArmError when those that can are outside its limits.
        """
        feasible = self._feasible()
        if not feasible:
            raise self._refused()
        made = self.policy.choose(self._forecast(feasible), self._limits(), self.rng)
        if self.pace is not None and self.request.limits.accuracy_target is None:
            made = replace(made, reason=f"{made.reason}; {self.pace}")
        if self.shadow is None:
            return made
        return replace(made, shadow=self.shadow._likely(feasible))  # noqa: SLF001 - of the same class

    def offer(self, arm: Arm) -> Offer:
        """Give the offer of an arm."""
        return next(offer for offer in self.offers if offer.arm == arm)

    def within(self, free_nano_usd: int) -> Choice | None:
        """Keep the offers whose worst case fits into ``free_nano_usd``; None if none can be picked.

        What fits has to keep the request's limits as well.
        """
        choice = self.affordable(free_nano_usd)
        return choice if choice._can_decide() else None  # noqa: SLF001 - of the same class

    def affordable(self, free_nano_usd: int) -> Choice:
        """Reject the offers whose worst case does not fit into ``free_nano_usd``."""
        dear = "its worst case does not fit what is left of the budget"
        kept = tuple(
            replace(offer, rejected=dear)
            if offer.rejected is None and offer.worst_case_nano_usd > free_nano_usd
            else offer
            for offer in self.offers
        )
        return replace(self, offers=kept)

    def without(self, models: Collection[str], reason: str) -> Choice:
        """Reject the offers that need one of some models."""
        kept = tuple(
            replace(offer, rejected=reason)
            if offer.rejected is None and any(part.model.name in models for part in offer.parts)
            else offer
            for offer in self.offers
        )
        return replace(self, offers=kept)

    def reachable(self, down: Collection[str]) -> Choice:
        """Reject the offers that need a model that is ``down``, unless no other can be picked."""
        choice = self.without(down, "its upstream is left alone for now")
        return choice if choice._can_decide() else self  # noqa: SLF001 - of the same class

    def plan(self) -> Plan:
        """Show every arm with its predictions, and the decision; it is None where none is left."""
        try:
            made = self.decide()
        except (NoAffordableArmError, RequestError):
            made = None
        prediction = self.prediction
        return Plan(
            request_id=self.request.request_id,
            decision=made,
            candidates=tuple(self._candidate(i) for i in range(len(self.offers))),
            policy_version=self.policy.version,
            difficulty=None if prediction is None else float(prediction.difficulty[0]),
            in_distribution=None if prediction is None else bool(prediction.in_distribution[0]),
        )

    def _candidate(self, i: int) -> Candidate:
        offer, priced = self.offers[i], self.priced[i]
        limits = self.request.limits
        too_dear = _above(priced.expected_cost_usd, limits.max_cost_usd)
        too_slow = _above(priced.expected_latency_s, limits.max_latency_s)
        rejected = offer.rejected
        if rejected is None and too_dear:
            rejected = f"it is expected to cost more than max_cost_usd {limits.max_cost_usd:g}"
        elif rejected is None and too_slow:
            rejected = f"it is expected to take longer than max_latency_s {limits.max_latency_s:g}"
        return Candidate(
            arm=offer.arm,
            predicted_quality=(
                None if self.prediction is None else float(self.prediction.quality[0, i])
            ),
            expected_cost_usd=priced.expected_cost_usd,
            expected_latency_s=priced.expected_latency_s or None,
            worst_case_nano_usd=offer.worst_case_nano_usd,
            rejected=rejected,
        )

    def _limits(self) -> PolicyLimits:
        limits = self.request.limits
        return PolicyLimits(limits.accuracy_target, limits.max_cost_usd, limits.max_latency_s)

    def _likely(self, feasible: Sequence[int]) -> Shadowed | None:
        """Tell the arm that the policy is likeliest to pick; None where it would pick none."""
        probability = self.policy.probability(self._forecast(feasible), self._limits())[0]
        if not probability.any():
            return None
        picked = self.offers[feasible[int(probability.argmax())]].arm
        return Shadowed(self.policy.version, picked)

    def _can_decide(self) -> bool:
        feasible = self._feasible()
        if not feasible:
            return False
        return bool(self.policy.probability(self._forecast(feasible), self._limits()).any())

    def _feasible(self) -> list[int]:
        return [i for i, offer in enumerate(self.offers) if offer.rejected is None]

    def _forecast(self, feasible: Sequence[int]) -> Forecast:
        whole = Forecast.of(self.priced, self.prediction)
        if len(feasible) == len(self.offers):
            return whole
        kept = list(feasible)
        return replace(
            whole,
            arms=tuple(whole.arms[i] for i in kept),
            cost_usd=whole.cost_usd[:, kept],
            quality=None if whole.quality is None else whole.quality[:, kept],
            latency_s=None if whole.latency_s is None else whole.latency_s[:, kept],
        )

    def _refused(self) -> RequestError | NoAffordableArmError:
        first: dict[str, Arm] = {}
        for offer in self.offers:
            first.setdefault(offer.rejected or "", offer.arm)
        told = "; ".join(f"{arm}: {reason}" for reason, arm in first.items())
        if any(offer.too_dear for offer in self.offers):
            return NoAffordableArmError(
                f"no arm can serve this request within its limits ({told}); raise max_cost_usd, "
                "lower max_tokens, or allow more arms"
            )
        too_long = any(offer.too_long for offer in self.offers)
        return RequestError(
            f"no arm can serve this request as it is written ({told})",
            param="messages" if too_long else None,
            code="context_length_exceeded" if too_long else "no_arm_can_serve",
        )


@dataclass(frozen=True, slots=True)
class _InService:
    """The policy in service as the operator wants it, and its version in the ledger.

    ``verified`` are its arms that were derived for an exact verifier.
    """

    stored_version: str
    estimator: Predictor
    policy: UtilityPolicy
    verified: frozenset[Arm]


@dataclass(frozen=True, slots=True)
class _Tried:
    """A policy on trial with its share of the traffic, 0 for a shadow."""

    policy: _InService
    share: float

    def gets(self, request: ChatRequest) -> bool:
        """Whether a request is among the share: always alike for one user, else by its id."""
        who = f"user:{request.user}" if request.user else f"request:{request.request_id}"
        text = f"{self.policy.stored_version}|{request.tenant}|{who}"
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2.0**64


@dataclass(slots=True)
class Chooser:
    """Choose with the policy in service, which ``follow`` reads from the ledger.

    ``rng`` is the only source of chance. ``follow`` may be called from another thread: a request
    sees either the old policy with its estimator or the new one with its own, never a mixture.
    """

    catalog: Catalog
    settings: ChooserSettings = field(default_factory=ChooserSettings)
    rng: np.random.Generator = field(default_factory=np.random.default_rng)
    judges: Judges = field(default_factory=Judges)
    _in_service: _InService | None = field(default=None, init=False)
    _tried: _Tried | None = field(default=None, init=False)
    _named: Mapping[str, _InService] = field(default_factory=dict, init=False)
    _latency_s: dict[Arm, float] = field(default_factory=dict, init=False)

    def consider(
        self, request: ChatRequest, offers: Sequence[Offer], pace: Outlook | None = None
    ) -> Choice:
        """Forecast every offer, at the price that ``pace`` makes of it; nothing is decided yet."""
        used, tried = self._in_service, self._tried
        version = policy_named(request.model)
        if version is not None:
            named = self._named.get(version)
            if named is None:
                msg = f"the policy {version!r} is not ready; try again"
                raise PolicyNotReadyError(msg)
            return self._choice(request, offers, named, named.policy)
        if request.model != AUTO:
            return self._choice(request, offers, used, FixedPolicy(offers[0].arm))
        if tried is not None and tried.gets(request):
            used = tried.policy
        choice = self._choice(request, offers, used, None if used is None else used.policy, pace)
        if tried is None or tried.share > 0.0:
            return choice
        beside = self._choice(request, offers, tried.policy, tried.policy.policy, pace)
        return replace(choice, shadow=beside)

    def _choice(
        self,
        request: ChatRequest,
        offers: Sequence[Offer],
        used: _InService | None,
        policy: Policy | None,
        pace: Outlook | None = None,
    ) -> Choice:
        prediction = None
        if used is not None:
            query = posed(request.task.text, request.task.posing)
            prediction = predicted(used.estimator, query, offers, used.verified, self.judges)
        priced = tuple(self._price(offer, i, prediction) for i, offer in enumerate(offers))
        if not isinstance(policy, UtilityPolicy):
            pace = None
        elif pace is not None and pace.pacing is not None:
            dearest_usd = max(arm.expected_cost_usd for arm in priced)
            own, policy = policy, pace.pacing.applied(policy, pace.factor, dearest_usd)
            pace = None if policy is own else pace
        return Choice(
            request=request,
            offers=tuple(offers),
            priced=priced,
            prediction=prediction,
            policy=self._safe_policy() if policy is None else policy,
            rng=self.rng,
            pace=pace,
        )

    def fetch(self, ledger: Ledger, version: str) -> None:
        """Make the policy of a version ready for requests that name it; blocks, once for each.

        Raises RequestError where the ledger keeps no such policy, PolicyNotReadyError for one that
        cannot be read.
        """
        if version in self._named:
            return
        stored = ledger.read(lambda session: find_policy(session, version))
        if stored is None:
            msg = (
                f"the model {AUTO_POLICY + version!r} does not exist here: the ledger keeps no "
                "policy of that version; GET /v1/models lists those that it keeps"
            )
            raise RequestError(msg, param="model", code="model_not_found")
        kept = dict(list(self._named.items())[1 - MAX_NAMED :])
        self._named = {**kept, version: self._ready(stored)}

    def has(self, version: str) -> bool:
        """Tell whether a policy is ready for requests that name it."""
        return version in self._named

    def follow(self, ledger: Ledger) -> None:
        """Take over the policy in service and the one on trial, where they are others than before.

        Raises PolicyNotReadyError for one that cannot be read: the one before stays in use.
        """
        stored = ledger.read(policy_in_service)
        if stored is None:
            self._in_service = None
        elif self._in_service is None or self._in_service.stored_version != stored.version:
            self._in_service = self._ready(stored)
        self._follow_trial(ledger)

    def _follow_trial(self, ledger: Ledger) -> None:
        trial = ledger.read(running_trial)
        if trial is None:
            self._tried = None
            return
        tried, share = self._tried, trial.terms.share
        if tried is None or tried.policy.stored_version != trial.version:
            self._tried = None
            stored = ledger.read(lambda session: read_policy(session, trial.version))
            self._tried = _Tried(self._ready(stored), share)
        elif tried.share != share:
            self._tried = _Tried(tried.policy, share)

    def _ready(self, stored: StoredPolicy) -> _InService:
        from policies import artifacts  # noqa: PLC0415 - scikit-learn, only with a fitted policy

        fitted = artifacts.from_bytes(stored.artifact)
        policy = adjusted(self._of_offered(fitted), self.settings)
        verified = frozenset(recipe.arm for recipe in fitted.recipes if recipe.verified)
        return _InService(stored.version, fitted.estimator, policy, verified)

    def _of_offered(self, fitted: FittedPolicy) -> UtilityPolicy:
        """Give its policy, none of its priced arms left out where a derived one is not offered.

        What is left out was left out in favour of the others, also of those that are not there.
        """
        policy = fitted.policy
        offered = {*self.catalog.arms, *(c.arm for c in self.catalog.cascades.values())}
        derived = {recipe.arm for recipe in fitted.recipes}
        if not policy.left_out or derived - policy.left_out <= offered:
            return policy
        unpriced = {Arm.parse(name) for name in fitted.manifest.get("unpriced_arms", ())}
        kept = policy.left_out & (derived | unpriced)
        return replace(policy, left_out=kept, version=f"{policy.version}:offered")

    def observe(self, arm: Arm, latency_s: float) -> None:
        """Take note of how long an arm took."""
        known = self._latency_s.get(arm, latency_s)
        self._latency_s[arm] = known + MEMORY * (latency_s - known)

    def _safe_policy(self) -> SafePolicy:
        """Before any fit: the dearest model, reasoning step by step where that is configured."""
        model = self.catalog.by_price()[-1].name
        steps = next((s for s, made in self.catalog.strategies.items() if made.name == STEPS), None)
        arm = Arm(model, steps or next(iter(self.catalog.strategies)))
        exploration = self.settings.exploration
        return SafePolicy(arm) if exploration is None else SafePolicy(arm, exploration)

    def _price(self, offer: Offer, i: int, prediction: Prediction | None) -> PricedArm:
        """Expect what the estimator says of an arm that it knows, else what its own price says."""
        cost_usd, busy_s = _expected(offer)
        if prediction is not None and prediction.cost_usd is not None and prediction.known[i]:
            cost_usd = float(prediction.cost_usd[0, i])
        return PricedArm(
            arm=offer.arm,
            expected_cost_usd=min(cost_usd, offer.uncapped_nano_usd / NANO_PER_USD),
            worst_case_nano_usd=offer.worst_case_nano_usd,
            expected_latency_s=self._latency_s.get(offer.arm, busy_s),
        )


def adjusted(policy: UtilityPolicy, settings: ChooserSettings) -> UtilityPolicy:
    """Give a fitted policy with what the operator fixes; its version says what was changed."""
    epsilon = policy.epsilon if settings.exploration is None else settings.exploration
    price, target = policy.shadow_price_per_usd, policy.accuracy_target
    mixture = policy.mixture
    if settings.shadow_price_per_usd is not None:
        price, target, mixture = settings.shadow_price_per_usd, None, None
    if settings.accuracy_target is not None:
        target = settings.accuracy_target
    changed = [
        f"{name}={now}"
        for name, now, before in (
            ("accuracy_target", target, policy.accuracy_target),
            ("epsilon", epsilon, policy.epsilon),
            ("shadow_price_per_usd", price, policy.shadow_price_per_usd),
        )
        if now != before
    ]
    return replace(
        policy,
        epsilon=epsilon,
        shadow_price_per_usd=price,
        mixture=mixture,
        accuracy_target=target,
        version=":".join([policy.version, *changed]),
    )


def _above(expected: float, limit: float | None) -> bool:
    return limit is not None and expected > limit


def _expected(offer: Offer) -> tuple[float, float]:
    """Guess cost in USD and busy seconds from token caps; 0 s where no speed is known.

    A cascade is taken to run all of its stages, until its outcomes say otherwise.
    """
    if offer.stages:
        costs, seconds = zip(*(_expected(stage) for stage in offer.stages), strict=True)
        return sum(costs), sum(seconds)
    price, throughput = offer.model.price, offer.model.throughput
    cost_usd = busy_s = 0.0
    for call in offer.calls:
        if call.own_nano_usd is not None:
            cost_usd += call.own_nano_usd / NANO_PER_USD
            continue
        prompt_tokens, completion_tokens = _tokens(call, offer)
        cost_usd += expected_usd(
            price,
            throughput,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )
        if throughput is not None:
            busy_s += throughput.expected_s(prompt_tokens, completion_tokens)
    return cost_usd, busy_s


def _tokens(call: CallBound, offer: Offer) -> tuple[float, float]:
    n_prompts = 1 if offer.model.provider.native_n else call.n_samples
    prompt_tokens = n_prompts * likely_prompt_tokens(call, offer.counted_tokens)
    return prompt_tokens, USUAL_SHARE * call.max_tokens * call.n_samples
