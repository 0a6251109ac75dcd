"""The process that decides whether two formulas are equal. The only door to math-verify.

Reads one JSON array ``[expected, answer]`` a line and writes one JSON value a line: true, false,
or null for what cannot be compared. Its memory is capped here, its time by `equivalence`, which
ends the process. The end of its input ends it.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
from typing import Any

MAX_MEMORY_BYTES = 2 << 30


def equal(expected: str, answer: str) -> bool | None:
    """Compare two formulas symbolically; None where one of them cannot be read."""
    from math_verify import parse, verify  # noqa: PLC0415 - after the memory is capped

    gold, target = (_read(parse, text) for text in (expected, answer))
    if not gold or not target:
        return None
    same = bool(verify(gold, target, timeout_seconds=None))
    return None if same and not _is_finite(gold[0]) else same


def _is_finite(formula: Any) -> bool:  # noqa: ANN401 - sympy ships no types
    """Tell whether a formula's value did not overflow: two infinities are not one answer."""
    import sympy  # noqa: PLC0415 - after the memory is capped

    if not isinstance(formula, sympy.Expr) or formula.free_symbols:
        return True
    return sympy.N(formula) not in {sympy.oo, -sympy.oo, sympy.zoo, sympy.nan}


def _read(parse: object, text: str) -> Any:  # noqa: ANN401 - a list of sympy's objects
    """Read a formula as LaTeX or as plain arithmetic; bare LaTeX is put between dollar signs."""
    assert callable(parse)  # noqa: S101 - tells the type checker what math-verify gives
    found = parse(text, parsing_timeout=None)
    if not found or ("\\" in text and "$" not in text):
        found = parse(f"${text}$", parsing_timeout=None) or found
    return found


def main() -> None:
    """Answer until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    logging.disable(logging.CRITICAL)
    replies = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        expected, answer = json.loads(line)
        try:
            said = equal(expected, answer)
        except Exception:  # noqa: BLE001 - a parser of odd text may raise anything; the worker lives on
            said = None
        replies.write(json.dumps(said) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
