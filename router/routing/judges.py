"""How far the judges of cascades can be trusted, and what that makes of a cascade's predictions.

A policy knows a cascade by its outcomes, or derived it from recorded samples. A verified one was
derived for an exact verifier; the one that is configured may be weaker. Of such a cascade, and of
one that nobody tried, the policy is told what its stages and the measured judge make of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from policies.judged import Trust, expected_run
from router.strategies.escalation import Rule
from router.verifiers.registry import parse_verifier
from storage.reliability import read_reliability

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from cost_models.types import Arm
    from policies.predictor import Prediction, Predictor
    from router.routing.candidates import Offer
    from router.routing.catalog import Catalog
    from router.strategies.escalation import Escalation
    from storage.reliability import Reliability
    from storage.store import Ledger

REFRESH_S = 300.0
"""Seconds between two measurements."""
WINDOW = timedelta(days=90)
"""Requests that are measured on: a judge changes with the models behind it."""


@dataclass(slots=True)
class Judges:
    """Reliabilities as last measured; `follow` may run in another thread than the rest."""

    _measured: Mapping[tuple[str, str], Reliability] = field(default_factory=dict, init=False)
    _measured_at: datetime | None = field(default=None, init=False)

    def follow(self, ledger: Ledger, catalog: Catalog, now: datetime) -> None:
        """Measure again, where there are cascades and the last time is long ago."""
        last = self._measured_at
        if not catalog.cascades or (last and (now - last).total_seconds() < REFRESH_S):
            return
        found = ledger.read(lambda session: read_reliability(session, now - WINDOW))
        self._measured = {(each.judge, each.model): each for each in found}
        self._measured_at = now

    def trusts(self, escalation: Escalation) -> list[Trust | None]:
        """Say how far the judge is trusted at each stage; None where it can end nothing."""
        verifier = escalation.verifier
        exact = verifier is not None and parse_verifier(verifier).demands.exact
        silent = escalation.rule is Rule.AGREE
        return [
            None if silent and i == 0 else self._trust(escalation.judge, stage.model, exact=exact)
            for i, stage in enumerate(escalation.stages)
        ]

    def _trust(self, judge: str, model: str, *, exact: bool) -> Trust:
        found = self._measured.get((judge, model))
        if found is None:
            return Trust.measured(exact=exact)
        return Trust.measured(
            right=found.right,
            right_trusted=found.right_trusted,
            wrong=found.wrong,
            wrong_trusted=found.wrong_trusted,
            exact=exact,
        )


def predicted(
    estimator: Predictor,
    query: str,
    offers: Sequence[Offer],
    derived: Collection[Arm],
    judges: Judges,
) -> Prediction:
    """Predict every offer on one query; ``derived`` arms were played with an exact verifier.

    A cascade among them, and one without outcomes, is put together from its stages. Its cost is
    too, where costs were fitted.
    """
    arms = [offer.arm for offer in offers]
    made = [
        (i, offer.escalation)
        for i, offer in enumerate(offers)
        if offer.escalation is not None
        and (offer.arm in derived or offer.arm not in estimator.observed_)
    ]
    if not made:
        return estimator.predict([query], arms)
    staged = dict.fromkeys(stage for _, escalation in made for stage in escalation.stages)
    whole = estimator.predict([query], [*arms, *staged])
    place = {arm: len(arms) + i for i, arm in enumerate(staged)}
    quality, known = whole.quality.copy(), whole.known.copy()
    cost_usd = None if whole.cost_usd is None else whole.cost_usd.copy()
    for i, escalation in made:
        at = [place[stage] for stage in escalation.stages]
        spent = np.zeros((1, len(at))) if cost_usd is None else cost_usd[:, at]
        right, cost = expected_run(quality[:, at], spent, judges.trusts(escalation))
        quality[:, i] = right
        known[i] = all(known[at])
        if cost_usd is not None:
            cost_usd[:, i] = cost
    n = len(arms)
    tokens = whole.completion_tokens
    return replace(
        whole,
        arms=tuple(arms),
        quality=quality[:, :n],
        completion_tokens=None if tokens is None else tokens[:, :n],
        cost_usd=None if cost_usd is None else cost_usd[:, :n],
        known=known[:n],
    )
