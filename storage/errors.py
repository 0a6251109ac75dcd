"""Errors of the ledger.

::

    RheostatError
    |-- LedgerError                    the ledger cannot be used as asked
    |   |-- LedgerUnavailableError     it cannot be reached or written now; try again later
    |   |   `-- LedgerBusyError        others held it for too long; nothing was written
    |   |       `-- LedgerConflictError    another transaction was in the way; run it again
    |   |-- LedgerSchemaError          the database's tables are not ones that this code can use
    |   `-- EntryExistsError           this attempt of the request is in the ledger already
    `-- EntryNotFoundError             nobody opened such an entry
"""

from __future__ import annotations

from cost_models.errors import RheostatError

RETRY_AFTER_S = 5.0


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


class EntryNotFoundError(RheostatError):
    """The ledger has no such entry; ``key`` is what was looked for."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"the ledger has no entry for {key}; use the id that came with the response"
        )
