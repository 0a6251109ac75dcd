"""What was spent and what it bought, from the hourly rollups, exact to the nano-USD.

Imported history is left out: this gateway neither ran nor paid it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cost_models.money import NANO_PER_USD
from cost_models.types import Arm
from storage.models import EntryStatus
from storage.sums import call_sums, entry_sums, hour_sums, sources

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from storage.sums import Figures


@dataclass(frozen=True, slots=True)
class ArmTotal:
    """What one arm did over a time. ``quality`` is the mean over ``n_graded``, None without any.

    ``cost_nano_usd`` counts every charged entry (``n_costed``), those in doubt (``n_in_doubt``) at
    what they are charged now, and is None without any; ``graded_cost_nano_usd`` the graded ones
    alone. ``latency_s`` is the mean over the entries of which it is known.
    """

    arm: Arm
    n_entries: int
    n_finished: int
    n_in_doubt: int
    n_costed: int
    n_graded: int
    quality: float | None
    cost_nano_usd: int | None
    graded_cost_nano_usd: int
    prompt_tokens: int
    completion_tokens: int
    machine_ns: int
    latency_s: float | None

    @property
    def usd_per_correct(self) -> float | None:
        """Cost of the graded entries per right answer among them; None when there is none."""
        right = (self.quality or 0.0) * self.n_graded
        return self.graded_cost_nano_usd / NANO_PER_USD / right if right > 0 else None


@dataclass(frozen=True, slots=True)
class Totals:
    """The whole ledger over a time; ``cost_nano_usd`` is the sum over every arm.

    ``overshoot_nano_usd`` is what was billed beyond the holds of single entries. ``n_imported``
    entries came from elsewhere and are in none of the other figures.
    """

    n_requests: int
    n_refused: int
    n_entries: int
    n_open: int
    n_in_doubt: int
    n_calls: int
    cost_nano_usd: int
    overshoot_nano_usd: int
    n_imported: int


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the spend by one ``name``: its calls, those nobody reported the usage of, its cost.

    Calls that are in doubt are at their worst case. Parts add up to the whole, for every dimension.
    Of the cost, ``failed_cost_nano_usd`` is of the ``n_failed`` calls that ended in an error, and
    ``first_cost_nano_usd`` of the first call of each entry where it did not.
    """

    name: str
    n_calls: int
    n_in_doubt: int
    n_estimated: int
    n_failed: int
    cost_nano_usd: int
    first_cost_nano_usd: int
    failed_cost_nano_usd: int
    prompt_tokens: int
    cached_prompt_tokens: int
    cache_write_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    machine_ns: int


def totals_by_arm(
    session: Session, since: datetime | None = None, until: datetime | None = None
) -> list[ArmTotal]:
    """Sum up the entries begun in [``since``, ``until``), one line per arm, dearest first."""
    where = sources(session, since, until)
    by_arm: dict[Arm, dict[EntryStatus, Figures]] = {}
    for (model, strategy, status), figures in entry_sums(
        session, where, ("model", "strategy", "status")
    ).items():
        by_arm.setdefault(Arm(model, strategy), {})[status] = figures
    found = [_arm_total(arm, by_status) for arm, by_status in by_arm.items()]
    return sorted(found, key=lambda t: (-(t.cost_nano_usd or 0), t.arm.model, t.arm.strategy))


def _arm_total(arm: Arm, by_status: dict[EntryStatus, Figures]) -> ArmTotal:
    def total(name: str) -> int:
        return sum(figures[name] or 0 for figures in by_status.values())

    n_graded, n_timed = total("n_graded"), total("n_timed")
    n_costed = total("n_costed")
    in_doubt = by_status.get(EntryStatus.IN_DOUBT)
    return ArmTotal(
        arm=arm,
        n_entries=total("n_entries"),
        n_finished=total("n_finished"),
        n_in_doubt=in_doubt["n_entries"] if in_doubt else 0,
        n_costed=n_costed,
        n_graded=n_graded,
        quality=total("quality_sum") / n_graded if n_graded else None,
        cost_nano_usd=total("cost_nano_usd") if n_costed else None,
        graded_cost_nano_usd=total("graded_cost_nano_usd"),
        prompt_tokens=total("prompt_tokens"),
        completion_tokens=total("completion_tokens"),
        machine_ns=total("machine_ns"),
        latency_s=total("latency_s") / n_timed if n_timed else None,
    )


def totals(
    session: Session, since: datetime | None = None, until: datetime | None = None
) -> Totals:
    """Sum up what began in [``since``, ``until``); None is open-ended."""
    where = sources(session, since, until)
    by_status = {status: f for (status,), f in entry_sums(session, where, ("status",)).items()}
    calls = call_sums(session, where, ()).get((), {})
    hours = hour_sums(session, where)

    def count(status: EntryStatus) -> int:
        return by_status[status]["n_entries"] if status in by_status else 0

    def total(name: str) -> int:
        return sum(figures[name] or 0 for figures in by_status.values())

    return Totals(
        n_requests=hours["n_requests"],
        n_refused=hours["n_refused"],
        n_entries=total("n_entries"),
        n_open=count(EntryStatus.OPEN),
        n_in_doubt=count(EntryStatus.IN_DOUBT),
        n_calls=calls.get("n_calls") or 0,
        cost_nano_usd=total("cost_nano_usd"),
        overshoot_nano_usd=total("overshoot_nano_usd"),
        n_imported=hours["n_imported"],
    )


def parts(
    session: Session,
    dimension: str,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Part]:
    """Split the spend of [``since``, ``until``) by one of `storage.rollups.CALL_KEYS`.

    Dearest first. What a crash left without calls has the role ``lost`` and no provider.
    """
    found = [
        Part(name=str(name), **{figure: value or 0 for figure, value in figures.items()})
        for (name,), figures in call_sums(
            session, sources(session, since, until), (dimension,)
        ).items()
    ]
    return sorted(found, key=lambda part: (-part.cost_nano_usd, part.name))
