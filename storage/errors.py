"""Errors of the ledger.

::

    RheostatError
    |-- LedgerError                    the ledger cannot be used as asked
    |   |-- LedgerUnavailableError     it cannot be reached or written now; try again later
    |   |   `-- LedgerBusyError        others held it for too long; nothing was written
    |   |       `-- LedgerConflictError    another transaction was in the way; run it again
    |   |-- LedgerSchemaError          the database's tables are not ones that this code can use
    |   |-- SimulationError            a simulated history cannot be written here
    |   `-- EntryExistsError           this attempt of the request is in the ledger already
    |-- BudgetExceededError            (cost_models) a hold does not fit
    |   `-- HeldBackError              it would fit if what is in flight cost nothing more
    |-- RateLimitedError               a key asks faster than it may
    |-- WithdrawnError                 the caller took the request back before it was opened
    |-- BillError                      a bill to reconcile with cannot be read as one
    |-- KeyNotFoundError               the ledger has no such key, or it is over
    `-- EntryNotFoundError             nobody opened such an entry
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cost_models.errors import BudgetExceededError, RheostatError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cost_models.errors import BudgetFacts
    from cost_models.rates import Bucket

RETRY_AFTER_S = 5.0
HELD_BACK_RETRY_AFTER_S = 1.0


class LedgerError(RheostatError):
    """The ledger cannot be used as asked; the message names the database and what to do."""


class LedgerUnavailableError(LedgerError):
    """The ledger cannot be reached or written now; worth another try after ``retry_after_s``."""

    retry_after_s = RETRY_AFTER_S


class LedgerBusyError(LedgerUnavailableError):
    """Others held what a transaction needed; it was rolled back whole and may be run again."""

    retry_after_s = 1.0


class LedgerConflictError(LedgerBusyError):
    """The database gave way to another transaction at once, so running again is likely to work."""


class LedgerSchemaError(LedgerError):
    """The database's tables are newer than this code, or not a ledger's."""


class EntryExistsError(LedgerError):
    """An attempt was opened twice; the first one stands."""

    def __init__(self, request_id: str, attempt: int) -> None:
        self.request_id = request_id
        self.attempt = attempt
        super().__init__(
            f"attempt {attempt} of request {request_id!r} is in the ledger already; "
            "give each request an id of its own and each attempt its number"
        )


class HeldBackError(BudgetExceededError):
    """A hold does not fit now, and would if all that is in flight cost nothing more.

    ``budget_id`` names the budget that holds it back: by what others hold, or because others
    have been waiting for it longer.
    """

    retry_after_s = HELD_BACK_RETRY_AFTER_S

    def __init__(self, facts: BudgetFacts, asked_nano_usd: int, budget_id: int) -> None:
        super().__init__(facts, asked_nano_usd)
        self.budget_id = budget_id

    def _told(self) -> str:
        facts = self.facts
        return (
            f"the {facts.period} budget of {facts.scope!r} has {facts.held_nano_usd / 1e9:.9f} USD "
            f"held by requests in flight, and this one needs up to "
            f"{self.asked_nano_usd / 1e9:.9f} USD for a while; send it again, or lower max_tokens"
        )


class RateLimitedError(RheostatError):
    """A key asks faster than it may, and may again after ``retry_after_s``.

    ``buckets`` are its limits per minute, by name.
    """

    def __init__(
        self, subject: str, limit: str, retry_after_s: float, buckets: Mapping[str, Bucket]
    ) -> None:
        self.retry_after_s = retry_after_s
        self.buckets = buckets
        super().__init__(
            f"keys of {subject!r} may ask {limit}; try again in {retry_after_s:.2f} s, or ask the "
            "operator for more"
        )


class BudgetChangeError(LedgerError):
    """A budget cannot be changed so by command; nothing was written."""


class SimulationError(LedgerError):
    """A simulated history cannot be written here; nothing was."""


class WithdrawnError(RheostatError):
    """The caller took an opening back before it was made; nothing was written."""


class BillError(RheostatError):
    """A bill cannot be read; ``line`` of the file is where, None for the whole file."""

    def __init__(self, name: str, problem: str, line: int | None = None) -> None:
        self.name = name
        self.line = line
        where = name if line is None else f"{name}, line {line}"
        super().__init__(f"{where}: {problem}")


class KeyNotFoundError(RheostatError):
    """The ledger has no such key, or one that is over already."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        super().__init__(f"there is no valid key {key_id!r}; see `rheostat keys list`")


class EntryNotFoundError(RheostatError):
    """The ledger has no such entry; ``key`` is what was looked for."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"the ledger has no entry for {key}; use the id that came with the response"
        )
