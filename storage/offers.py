"""The arms that a decision was made among, as short text in its entry.

One JSON object by model and then strategy, so that no model is named twice; each arm has its
expected cost in whole nano-USD and its predicted quality in ten thousandths, if there is one:
``{"large":{"cot":[2500000,9120],"direct":[900000,8410]}}``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sqlalchemy import select

from cost_models.money import NANO_PER_USD
from cost_models.types import Arm
from policies.types import Offered
from storage.models import EntryRow

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

STEPS = 10_000
WITH_QUALITY = 2


def offered_text(offered: Offered | None) -> str | None:
    """Write an offer; None for none."""
    if offered is None:
        return None
    models: dict[str, dict[str, list[int]]] = {}
    for i, arm in enumerate(offered.arms):
        figures = [round(offered.cost_usd[i] * NANO_PER_USD)]
        if offered.quality is not None:
            figures.append(round(offered.quality[i] * STEPS))
        models.setdefault(arm.model, {})[arm.strategy] = figures
    return json.dumps(models, separators=(",", ":"), ensure_ascii=False)


def read_offered(text: str | None) -> Offered | None:
    """Read what `offered_text` wrote; arms of one model come together."""
    if text is None:
        return None
    figures = {
        Arm(model, strategy): found
        for model, strategies in json.loads(text).items()
        for strategy, found in strategies.items()
    }
    known = all(len(found) == WITH_QUALITY for found in figures.values())
    return Offered(
        arms=tuple(figures),
        cost_usd=tuple(found[0] / NANO_PER_USD for found in figures.values()),
        quality=tuple(found[1] / STEPS for found in figures.values()) if known else None,
    )


def read_offers(session: Session, since: datetime | None = None) -> dict[str, Offered]:
    """Give by request what the decisions begun from ``since`` on were made among, where kept."""
    found = select(EntryRow.request_id, EntryRow.offered).where(EntryRow.offered.is_not(None))
    if since is not None:
        found = found.where(EntryRow.started_at >= since)
    offers = ((name, read_offered(text)) for name, text in session.execute(found))
    return {name: offered for name, offered in offers if offered is not None}
