"""One process that uses a ledger: run as a script by the tests of races and crashes.

``contender.py race URL NAME N HOLD``: N threads each open and settle one entry at their hold;
prints how many were admitted. ``contender.py crash URL NAME HOLD``: opens an entry, says so, and
waits to be killed.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from cost_models.errors import BudgetExceededError
from cost_models.types import Arm, Usage
from policies.types import Decision, Query
from storage.engine import create_ledger_engine, migrate
from storage.ledger import Asked, Call, OpenEntry, SettleEntry
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
    ledger.open(entry(name, int(numbers[0])), NOW)
    sys.stdout.write("held\n")
    sys.stdout.flush()
    time.sleep(600)


if __name__ == "__main__":
    main()
