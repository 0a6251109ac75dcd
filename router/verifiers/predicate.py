"""A check of the user's own: a Python function that a package announces by entry point."""

from __future__ import annotations

import asyncio
import importlib.metadata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from router.errors import StrategyConfigError
from router.parameters import canonical, check, number, unknown
from router.verifiers.base import Demands, Verdict, WithoutCalls

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.providers.base import Sampler
    from router.types import Answer, Task

GROUP = "rheostat.verifiers"


@dataclass(frozen=True, slots=True)
class PredicateVerifier(WithoutCalls):
    """Ask the function that is announced as ``entry`` in the group ``rheostat.verifiers``.

    It is called in a worker thread as ``function(question, answer)``, both text, and gives a
    bool, a quality in [0, 1], or None when it cannot say. What it raises, a value out of range,
    and ``timeout_s`` running out are "cannot say": a broken check never decides. It is the
    operator's own code and runs with the gateway's rights; only an installed package can be named.
    """

    grader: ClassVar[str] = "predicate"
    title: ClassVar[str] = "a Python function of an installed package"
    demands: ClassVar[Demands] = Demands()

    entry: str
    timeout_s: float = number(5.0, 0.0, 300.0, open_low=True)

    def __post_init__(self) -> None:
        check(self)
        _function(self.entry)

    def __str__(self) -> str:
        return canonical(self)

    async def verify(self, task: Task, answer: Answer, sampler: Sampler | None = None) -> Verdict:  # noqa: ARG002 - protocol
        """Judge by what the function gives for the question and the answer's text."""
        work = asyncio.to_thread(_function(self.entry), task.text, answer.text)
        try:
            given = await asyncio.wait_for(work, self.timeout_s)
        except TimeoutError:
            return Verdict(None, f"{self.entry} did not answer in {self.timeout_s:g} s")
        except Exception as error:  # noqa: BLE001 - foreign code may raise anything; it must not end a request
            return Verdict(None, f"{self.entry} raised {type(error).__name__}")
        if given is None:
            return Verdict(None, f"{self.entry} cannot say")
        if not isinstance(given, int | float) or not 0.0 <= given <= 1.0:
            return Verdict(None, f"{self.entry} gave {given!r}, which is no quality in [0, 1]")
        return Verdict(float(given), f"{self.entry} says {float(given):g}")


@lru_cache(maxsize=64)
def _function(entry: str) -> Callable[[str, str], Any]:
    """Load an announced function; raise StrategyConfigError with the nearest name."""
    announced = importlib.metadata.entry_points(group=GROUP)
    found = next((point for point in announced if point.name == entry), None)
    if found is None:
        msg = f"predicate: {unknown(f'entry point of {GROUP}', entry, announced.names)}"
        raise StrategyConfigError(msg)
    try:
        function = found.load()
    except (ImportError, AttributeError) as error:
        msg = f"predicate: the entry point {entry!r} cannot be loaded: {error}"
        raise StrategyConfigError(msg) from error
    if not callable(function):
        msg = f"predicate: the entry point {entry!r} names {type(function).__name__}, no function"
        raise StrategyConfigError(msg)
    return function  # type: ignore[no-any-return]
