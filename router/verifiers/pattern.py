"""An answer that matches a regular expression."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from router.errors import StrategyConfigError
from router.parameters import canonical, check
from router.verifiers.base import Rule, Verdict

if TYPE_CHECKING:
    from router.types import Answer, Task

MAX_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class PatternVerifier(Rule):
    """Right is an answer that ``regex`` matches as a whole: its canonical form or its text.

    Of a text only the first `MAX_CHARS` characters are matched. The expression comes from the
    configuration; one that backtracks without end is the configuration's mistake.
    """

    grader: ClassVar[str] = "pattern"
    title: ClassVar[str] = "a regular expression that matches the whole answer"

    regex: str

    def __post_init__(self) -> None:
        check(self)
        try:
            re.compile(self.regex)
        except (re.error, OverflowError, RecursionError) as error:
            msg = f"pattern: regex is no regular expression: {error}; got {self.regex!r}"
            raise StrategyConfigError(msg) from error

    def __str__(self) -> str:
        return canonical(self)

    def judge(self, task: Task, answer: Answer) -> Verdict:  # noqa: ARG002 - protocol
        """Judge the canonical answer, and the text where that does not match."""
        tried = (said.strip()[:MAX_CHARS] for said in (answer.value, answer.text) if said)
        if any(re.fullmatch(self.regex, said, re.DOTALL) for said in tried):
            return Verdict(1.0, "the answer has the asked form")
        return Verdict(0.0, f"the answer does not match {self.regex}")
