"""The facts of a period on the terminal: what a right answer cost, what was saved, what changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from cost_models.budgets import zone
from cost_models.money import format_usd
from router.cli.console import console, fail, usd

if TYPE_CHECKING:
    from datetime import tzinfo

    from sqlalchemy.orm import Session

    from cost_models.accuracy import Estimate
    from cost_models.bridge import Bridge
    from cost_models.pricing import PriceBook
    from router.gateway.config import Config
    from storage.facts import PeriodFacts

    Period = tuple[datetime, datetime]

SIGNED_PLACES = 6


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for; ``since`` None is the first entry, ``earlier`` what to compare with.

    The spend from ``since`` to ``forecast_to`` is forecast unless that is None.
    """

    since: datetime | None
    until: datetime
    time_zone: str
    earlier: Period | None
    forecast_to: datetime | None = None


def simulated_prices(session: Session) -> PriceBook | None:
    """Give the prices of a simulated ledger's world; None for a ledger of real requests."""
    from storage.simulation import simulated_facts

    facts = simulated_facts(session)
    if facts is None:
        return None
    from policies.synthetic import World

    start = date.fromisoformat(facts["start"])
    return World(start, facts["days"], facts["requests_per_day"], facts["seed"]).prices


def in_zone(time: datetime | None, name: str) -> datetime | None:
    """Take a time from the command line as one of the zone called ``name``."""
    tz = zone_called(name)
    return None if time is None else time.replace(tzinfo=tz).astimezone(UTC)


def earlier_period(text: str, time_zone: str) -> Period:
    """Read ``DATE..DATE``; the end is not part of it."""
    parts = text.split("..")
    try:
        since, until = (datetime.fromisoformat(part) for part in parts)
    except ValueError:
        fail(f"--compare is written 2026-06-01..2026-07-01, got {text!r}")
    tz = zone_called(time_zone)
    begin, end = (
        (time if time.tzinfo else time.replace(tzinfo=tz)).astimezone(UTC)
        for time in (since, until)
    )
    if begin >= end:
        fail(f"--compare ends after it begins, got {text!r}")
    return begin, end


def facts_and_change(
    session: Session, config: Config, wanted: Wanted
) -> tuple[PeriodFacts | None, Bridge | None]:
    """Read the facts, None where nothing began in the time, and the change if it is asked for."""
    from storage.bridges import read_bridge
    from storage.facts import Asked, first_start, read_facts

    since = wanted.since or first_start(session)
    if since is None or since >= wanted.until:
        return None, None
    asked = Asked(
        since,
        wanted.until,
        wanted.time_zone,
        config.accuracy_target,
        forecast_to=wanted.forecast_to,
        limit_nano_usd=_limit(session, since, wanted.forecast_to),
    )
    if wanted.earlier is None:
        return read_facts(session, asked), None
    prices = simulated_prices(session) or config.price_book()
    change = read_bridge(session, wanted.earlier, (since, wanted.until), prices)
    return read_facts(session, asked), change


def show_facts(facts: PeriodFacts | None, change: Bridge | None) -> None:
    """Print the headline figures, each with its interval, or why there is none."""
    if facts is None:
        return
    from storage.measured import Refused

    screen = console()
    if facts.simulated is not None:
        screen.print("SIMULATED: a made-up history, no model ran and nothing was paid")
    each, right = facts.whole.usd_per_correct, facts.whole.accuracy
    if each is not None and right is not None:
        screen.print(
            f"a right answer costs {usd(each.value)} ({_interval(each)}), "
            f"{right.value:.1%} are right ({right.low:.1%} to {right.high:.1%}, from {right.n:,} "
            "grades, weighted)",
            soft_wrap=True,
        )
    saved = facts.savings
    if isinstance(saved, Refused):
        screen.print(f"savings are not measured: {saved.reason}", style="dim", soft_wrap=True)
    else:
        share = saved.saved_share
        screen.print(
            f"saved {share.value:+.1%} ({share.low:+.1%} to {share.high:+.1%}) against every "
            f"question once by {facts.baseline}, over the {saved.n:,} answers with a choice"
            + _difference(saved.accuracy_difference),
            soft_wrap=True,
            markup=False,
        )
    show_forecast(facts)
    if change is not None:
        parts = ", ".join(f"{name} {_signed(amount)}" for name, amount in change.parts.items())
        screen.print(
            f"spend changed by {_signed(change.after - change.before)}: {parts}", soft_wrap=True
        )


def show_forecast(facts: PeriodFacts) -> None:
    """Print what will be spent, if that was asked, and how wrong the forecast was before."""
    from storage.measured import Refused

    found = facts.forecast
    if found is None:
        return
    if isinstance(found, Refused):
        console().print(f"no forecast: {found.reason}", style="dim", soft_wrap=True)
        return
    told = f"forecast {usd(found.total_usd.value)} ({_interval(found.total_usd)})"
    if found.backtest_error is not None:
        told += f"; the last {found.backtest_days} days were off by {found.backtest_error:+.1%}"
    if found.over is not None:
        told += f"; over the budget with probability {found.over:.0%}"
    if found.days_left is not None:
        told += f", in about {found.days_left} days"
    console().print(told, soft_wrap=True)


def _limit(session: Session, since: datetime, until: datetime | None) -> int | None:
    """Give the limit of the organisation's budget whose window is [``since``, ``until``)."""
    from storage.budgets import budget_status

    for status in budget_status(session, since, ("organisation",)):
        if status.window_start == since and status.facts.resets_at == until is not None:
            return status.facts.limit_nano_usd
    return None


def _difference(found: Estimate | None) -> str:
    if found is None:
        return "; too few grades to compare accuracies"
    return f"; accuracy {found.value:+.1%} ({found.low:+.1%} to {found.high:+.1%})"


def _interval(found: Estimate) -> str:
    high = usd(found.high) if found.high < float("inf") else "no upper bound"
    return f"{usd(found.low)} to {high}"


def _signed(amount_nano_usd: int) -> str:
    sign = "-" if amount_nano_usd < 0 else "+"
    return f"{sign}{format_usd(abs(amount_nano_usd), SIGNED_PLACES)}"


def zone_called(name: str) -> tzinfo:
    """Give the time zone of that IANA name; the command fails where nobody knows it."""
    try:
        return zone(name)
    except ValueError as error:
        fail(str(error))
