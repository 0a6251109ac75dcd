"""Errors of choosing: nothing to choose from or with, bad outcomes, a study that does not fit."""

from __future__ import annotations

from cost_models.errors import RheostatError


class NoAffordableArmError(RheostatError):
    """No arm fits the request's limits and what is left of the budget."""


class PolicyNotReadyError(RheostatError):
    """No fitted artifact to choose with, or one that cannot be read."""


class OutcomeError(RheostatError):
    """An outcomes file or row is unusable; names source, row and column. Nothing was imported."""

    def __init__(
        self, source: str, problem: str, *, row: int | None = None, column: str | None = None
    ) -> None:
        self.source = source
        self.row = row
        self.column = column
        where = source + (f", row {row}" if row is not None else "")
        where += f", column {column!r}" if column is not None else ""
        super().__init__(f"{where}: {problem}")


class StudyMismatchError(RheostatError):
    """A stored study of this name is about other outcomes or options; nothing was run."""


class OutcomeWarning(UserWarning):
    """Part of an outcomes file cannot be used, and the rest can; says which and what is done."""
