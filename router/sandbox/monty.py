"""The sandbox over pydantic-monty, and the only door to it.

Monty is an interpreter of a subset of Python written in Rust, run in worker processes: a program
can reach what the host hands in, which here is nothing. Isolation by what the interpreter has,
not by taking away from CPython, is why it was chosen; docs/strategies.md compares the candidates.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import threading
from functools import lru_cache
from typing import TYPE_CHECKING

from router.errors import StrategyConfigError
from router.sandbox.base import Ending, Execution, Limits

if TYPE_CHECKING:
    from pydantic_monty import Monty, MontyError

MAX_CODE_CHARS = 20_000
MAX_ERROR_CHARS = 300
CALL_TIMEOUT_S = 60.0
"""Backstop of the parent for one feed; the limits stop a program long before."""

MAX_WORKERS = 4
LIMIT_ERRORS = ("TimeoutError", "MemoryError", "RecursionError")
UNSUPPORTED = ("NotImplementedError", "ModuleNotFoundError")
SOLUTION = "def solution("


def installed() -> bool:
    """Tell whether the optional install is there."""
    return importlib.util.find_spec("pydantic_monty") is not None


class MontySandbox:
    """Runs programs in a pool of worker processes, started at first use."""

    def __init__(self) -> None:
        if not installed():
            msg = "programs need a sandbox; run: pip install 'rheostat[sandbox]'"
            raise StrategyConfigError(msg)
        self._pool: Monty | None = None
        self._starting = threading.Lock()

    async def run(self, code: str, limits: Limits) -> Execution:
        """Run ``code`` in a fresh session of a worker, in a thread of its own."""
        if len(code) > MAX_CODE_CHARS:
            return Execution(
                Ending.LIMIT, error=f"a program has at most {MAX_CODE_CHARS} characters"
            )
        clean = code.encode(errors="replace").decode()
        return await asyncio.to_thread(self._run, clean, limits)

    def close(self) -> None:
        """End the workers. Idempotent."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.__exit__(None, None, None)

    def _run(self, code: str, limits: Limits) -> Execution:
        from pydantic_monty import MontyError  # noqa: PLC0415 - only a process that runs programs

        printed: list[str] = []
        room = limits.output_chars

        def keep(_stream: str, text: str) -> None:
            nonlocal room
            printed.append(text[:room])
            room = max(0, room - len(text))

        try:
            with self._workers().checkout(
                limits={
                    "max_feed_duration_secs": limits.time_s,
                    "max_memory": limits.memory_bytes,
                    "max_recursion_depth": limits.recursion,
                    "max_total_sleep_secs": 0.0,
                    "max_suspensions": 16,
                }
            ) as session:
                value = session.feed_run(code, print_callback=keep)
                if value is None and not printed and SOLUTION in code:
                    value = session.feed_run("solution()", print_callback=keep)
                said = None if value is None else str(value)[: limits.output_chars]
        except MontyError as error:
            return _failed(error, "".join(printed))
        except (RuntimeError, TimeoutError, ValueError, OverflowError) as error:
            return Execution(Ending.LIMIT, "".join(printed), error=type(error).__name__)
        return Execution(Ending.OK, "".join(printed), said)

    def _workers(self) -> Monty:
        with self._starting:
            if self._pool is None:
                from pydantic_monty import Monty  # noqa: PLC0415 - as above

                pool = Monty(max_processes=MAX_WORKERS, request_timeout=CALL_TIMEOUT_S)
                self._pool = pool.__enter__()
            return self._pool


def _failed(error: MontyError, printed: str) -> Execution:
    """Tell a limit, a missing part of the language and the program's own mistake apart."""
    said = str(error).strip().replace("\n", " ")[:MAX_ERROR_CHARS]
    kind = said.partition(":")[0]
    if kind in LIMIT_ERRORS or type(error).__name__ == "MontyCrashedError":
        ending = Ending.LIMIT
    elif kind in UNSUPPORTED or "not supported" in said:
        ending = Ending.UNSUPPORTED
    else:
        ending = Ending.ERROR
    return Execution(ending, printed, error=said)


@lru_cache(maxsize=1)
def sandbox() -> MontySandbox:
    """Give the sandbox of this process; its workers end with it."""
    made = MontySandbox()
    atexit.register(made.close)
    return made
