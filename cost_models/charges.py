"""What was charged for over a time: usage, what corrected it, and money that was granted ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from cost_models.types import Usage


@dataclass(frozen=True, slots=True)
class ChargedTo:
    """What a charge is told apart by; "" is none: no team, a provider that was not written down.

    ``strategy`` and ``status`` are those of the entry, ``model`` and ``role`` of its calls. The
    role of what a crash left without calls is ``lost``.
    """

    model: str
    strategy: str
    provider: str
    tenant: str
    team: str
    role: str
    status: str


@dataclass(frozen=True, slots=True)
class UsageCharge:
    """What calls begun in [``start``, ``end``) used, and what they were charged at first."""

    start: datetime
    end: datetime
    to: ChargedTo
    n_calls: int
    usage: Usage
    cost_nano_usd: int


@dataclass(frozen=True, slots=True)
class CorrectionCharge:
    """What was added later, below 0 taken away, to charges of [``start``, ``end``).

    ``kind`` is ``reprice`` or ``reconcile``; ``month`` the first instant of the month (UTC) in
    which it was written down.
    """

    start: datetime
    end: datetime
    to: ChargedTo
    kind: str
    month: datetime
    amount_nano_usd: int


@dataclass(frozen=True, slots=True)
class GrantCharge:
    """Money put into the prepaid budget of ``scope``; below 0 it was taken back."""

    scope: str
    amount_nano_usd: int
    reference: str | None
    granted_at: datetime


@dataclass(frozen=True, slots=True)
class Charges:
    """All that was charged over a time, in one view of the ledger called ``ledger_id``."""

    ledger_id: str
    usage: tuple[UsageCharge, ...]
    corrections: tuple[CorrectionCharge, ...]
    grants: tuple[GrantCharge, ...]
