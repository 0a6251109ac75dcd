"""The sandbox protocol: run a Python program that nobody trusts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

WRITE_PROGRAM = (
    "Write a Python program that works out the answer and prints it as its last line, nothing "
    "else. Use only plain Python and the math module: no classes, no generators, no input, no "
    "files. Reply with the program in one fenced code block."
)
"""Ask for a program that fits the sandbox."""


class Ending(StrEnum):
    """How a program ended; ``UNSUPPORTED`` means that the sandbox lacks what it needs."""

    OK = "ok"
    ERROR = "error"
    LIMIT = "limit"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use: seconds of execution, bytes of heap, characters of output."""

    time_s: float = 2.0
    memory_bytes: int = 64 << 20
    output_chars: int = 4_000
    recursion: int = 200


@dataclass(frozen=True, slots=True)
class Execution:
    """What became of a program.

    ``output`` is what it printed, at most ``output_chars`` characters; ``value`` the text of its
    last expression, or of what its function ``solution`` gives, None where there is neither;
    ``error`` one line for whoever wrote it.
    """

    ending: Ending
    output: str = ""
    value: str | None = None
    error: str = ""

    @property
    def result(self) -> str | None:
        """The program's answer: its value, or the last line that it printed; None without one."""
        if self.ending is not Ending.OK:
            return None
        if self.value is not None:
            return self.value
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return lines[-1] if lines else None


class Sandbox(Protocol):
    """Runs a program without network, files, environment or clock beyond its limits."""

    async def run(self, code: str, limits: Limits) -> Execution:
        """Run ``code`` from the start; never raises on what the program does."""
        ...
