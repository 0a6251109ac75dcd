r"""Mathematical equivalence: ``\frac{1}{2}``, ``0.5`` and ``1/2`` are one answer.

The comparison is symbolic (math-verify over sympy) and so has no bound of its own on time or
memory; it runs in one worker process that is ended when it is too slow.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import json
import selectors
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from policies.types import AnswerKind
from router import answers
from router.errors import StrategyConfigError
from router.parameters import canonical, check, number
from router.verifiers.base import Demands, Verdict, WithoutCalls

if TYPE_CHECKING:
    from router.providers.base import Sampler
    from router.types import Answer, Task

MAX_CHARS = 2_000
START_S = 30.0
"""Time that a fresh worker has to load sympy on a busy machine."""


@dataclass(frozen=True, slots=True)
class EquivalenceVerifier(WithoutCalls):
    """Right is an answer that is mathematically equal to ``expected``, a formula or LaTeX.

    Needs ``rheostat[verify]``. A comparison that takes longer than ``timeout_s`` is "cannot say".
    """

    grader: ClassVar[str] = "math"
    title: ClassVar[str] = "mathematically equal to a formula"
    demands: ClassVar[Demands] = Demands(extra="verify", exact=True)

    expected: str
    timeout_s: float = number(5.0, 0.0, 60.0, open_low=True)

    def __post_init__(self) -> None:
        check(self)
        if importlib.util.find_spec("math_verify") is None:
            msg = "math: math-verify is not installed; run: pip install 'rheostat[verify]'"
            raise StrategyConfigError(msg)

    def __str__(self) -> str:
        return canonical(self)

    async def verify(self, task: Task, answer: Answer, sampler: Sampler | None = None) -> Verdict:  # noqa: ARG002 - protocol
        """Judge the final formula of ``answer``."""
        found = _formula(answer)
        if not found:
            return Verdict(0.0, "no formula was found")
        said = await asyncio.to_thread(worker().equal, self.expected, found, self.timeout_s)
        if said is None:
            return Verdict(None, f"{found[:80]} cannot be compared with {self.expected}")
        return Verdict(float(said), f"{found[:80]} {'is' if said else 'is not'} {self.expected}")


def _formula(answer: Answer) -> str | None:
    """Give LaTeX as it was written, which the worker reads itself, else the final expression."""
    if "\\boxed" in answer.text:
        return answer.text[answer.text.rindex("\\boxed") :][:MAX_CHARS]
    return answers.extract(answer.text, AnswerKind.EXPRESSION) or answer.value


class Worker:
    """One process that compares; started when it is first asked, again after it was ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def equal(self, expected: str, answer: str, timeout_s: float) -> bool | None:
        """Compare two formulas; None for what cannot be compared within ``timeout_s`` seconds."""
        if max(len(expected), len(answer)) > MAX_CHARS:
            return None
        with self._lock:
            fresh = self._process is None or self._process.poll() is not None
            if fresh and self._ask("1", "1", START_S) is None:
                return None
            return self._ask(expected, answer, timeout_s)

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _ask(self, expected: str, answer: str, timeout_s: float) -> bool | None:
        process = self._process
        if process is None or process.poll() is not None:
            self.close()
            process = self._process = _start()
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101 - both are pipes
        until_s = time.monotonic() + timeout_s
        try:
            process.stdin.write(json.dumps([expected, answer]) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            self.close()
            return None
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdout, selectors.EVENT_READ)
            line = process.stdout.readline() if ready.select(until_s - time.monotonic()) else ""
        if not line.strip():
            self.close()
            return None
        said = json.loads(line)
        return said if isinstance(said, bool) else None


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "router.verifiers.math_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@lru_cache(maxsize=1)
def worker() -> Worker:
    """Give the worker of this process; it ends with it."""
    made = Worker()
    atexit.register(made.close)
    return made
