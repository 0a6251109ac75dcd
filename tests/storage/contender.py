"""One process that uses a ledger: run as a script by the tests of races and crashes.

``contender.py race URL NAME N HOLD``: N threads each open and settle one entry at their hold;
prints how many were admitted. ``contender.py crash URL NAME HOLD``: opens an entry, says so, and
waits to be killed. ``contender.py rates URL NAME N LIMITS...``: N threads each ask to be let in
once under each limits, such as 7/0/0 (requests, tokens, parallel; 0 is none), which are shared by
all; prints how many were under each, and ends none.
``contender.py permit URL NAME``: takes the one parallel request of a subject, says so, and waits.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from cost_models.errors import BudgetExceededError
from cost_models.rates import RateLimits
from cost_models.types import Arm, Usage
from policies.types import Decision, Query
from storage.engine import create_ledger_engine, migrate
from storage.errors import RateLimitedError
from storage.ledger import Asked, Call, OpenEntry, SettleEntry
from storage.rates import RateAsk
from storage.store import Ledger

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


def entry(name: str, hold_nano_usd: int) -> OpenEntry:
    """Build an entry of one fixed arm."""
    decision = Decision(arm=Arm("small", "direct"), propensity=1.0, policy_version="fixed")
    return OpenEntry(Asked(Query(name, "2+2?")), decision, hold_nano_usd)


def one_request(ledger: Ledger, name: str, hold_nano_usd: int) -> bool:
    """Open and settle; False when the budget refused."""
    try:
        entry_id = ledger.open(entry(name, hold_nano_usd), NOW)
    except BudgetExceededError:
        return False
    call = Call("small", "answer", Usage(n_calls=1), hold_nano_usd, latency_s=0.0)
    ledger.settle(SettleEntry(entry_id, (call,), latency_s=0.0), NOW)
    return True


def one_ask(ledger: Ledger, subject: str, name: str, limits: RateLimits) -> bool:
    """Ask to be let in for 10 tokens; False when it was too fast."""
    ask = RateAsk(subject, name, limits, 10)
    try:
        ledger.admitting(ask, NOW, NOW + timedelta(seconds=60)).result()
    except RateLimitedError:
        return False
    return True


def ask_under(ledger: Ledger, name: str, n: int, shown: str) -> int:
    """Ask n times at once under limits that also name their subject."""
    limits = RateLimits(*(int(limit) or None for limit in shown.split("/")))
    with ThreadPoolExecutor(n) as threads:
        return sum(
            threads.map(lambda i: one_ask(ledger, shown, f"{shown} {name} {i}", limits), range(n))
        )


def main() -> None:
    """Do what the command line says."""
    what, url, name, *numbers = sys.argv[1:]
    engine = create_ledger_engine(url, wait_s=60)
    migrate(engine)
    ledger = Ledger(engine)
    if what == "race":
        n, hold = map(int, numbers)
        with ThreadPoolExecutor(n) as threads:
            admitted = list(
                threads.map(lambda i: one_request(ledger, f"{name}-{i}", hold), range(n))
            )
        sys.stdout.write(f"{sum(admitted)}\n")
        ledger.close()
        return
    if what == "rates":
        n, *shown = numbers
        let_in = [str(ask_under(ledger, name, int(n), limits)) for limits in shown]
        sys.stdout.write(f"{' '.join(let_in)}\n")
        ledger.close()
        return
    if what == "permit":
        one_ask(ledger, "acme", name, RateLimits(parallel_requests=1))
    else:
        ledger.open(entry(name, int(numbers[0])), NOW)
    sys.stdout.write("held\n")
    sys.stdout.flush()
    time.sleep(600)


if __name__ == "__main__":
    main()
