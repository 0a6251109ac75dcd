"""Sums, differences, products and chains of them, by the number of digits and terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.questions.base import Draft, Family

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.chance import Dice

ASKING = (
    "What is {}?",
    "Calculate {}.",
    "Compute {}.",
    "Work out {}.",
    "Evaluate {}.",
    "What does {} equal?",
    "Find the value of {}.",
    "What do you get for {}?",
)
ADDING = (
    "Add these numbers: {}.",
    "Find the sum of {}.",
    "What is the sum of {}?",
)
ADD_LEVELS = ((2, 1), (2, 2), (3, 2), (4, 3), (5, 4))
"""Terms and digits of a sum, by level."""
MULTIPLY_LEVELS = ((1, 1), (2, 1), (3, 1), (2, 2), (3, 2))
"""Digits of the two factors, by level."""
SUBTRACT_DIGITS = (1, 2, 3, 4)


def _of_digits(dice: Dice, digits: int) -> int:
    """Whole number of so many digits; one of a single digit is at least 2."""
    return dice.between(max(2, 10 ** (digits - 1)), 10**digits - 1)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"


def draft_add(dice: Dice, level: int) -> Draft:
    """Sum of two to five terms."""
    n_terms, digits = ADD_LEVELS[level - 1]
    terms = [_of_digits(dice, digits) for _ in range(n_terms)]
    wording = dice.pick(ASKING + ADDING)
    written = _listed(terms) if wording in ADDING else " + ".join(map(str, terms))
    return Draft(wording.format(written), str(sum(terms)))


def draft_subtract(dice: Dice, level: int) -> Draft:
    """Difference of two numbers; below zero half of the time at the last level."""
    digits = SUBTRACT_DIGITS[level - 1]
    larger, smaller = sorted((_of_digits(dice, digits), _of_digits(dice, digits)), reverse=True)
    if level == 1:
        larger += dice.between(0, 10)
    if level == len(SUBTRACT_DIGITS) and dice.below(2):
        larger, smaller = smaller, larger
    wording = dice.pick((*ASKING, "Subtract {1} from {0}.", "What is left of {0} minus {1}?"))
    text = wording.format(larger, smaller) if "{1}" in wording else None
    return Draft(text or wording.format(f"{larger} - {smaller}"), str(larger - smaller))


def draft_multiply(dice: Dice, level: int) -> Draft:
    """Product of two factors, in either order."""
    factors = dice.shuffled([_of_digits(dice, digits) for digits in MULTIPLY_LEVELS[level - 1]])
    wording = dice.pick((*ASKING, "Multiply {0} by {1}.", "Find the product of {0} and {1}."))
    a, b = factors
    sign = dice.pick(("*", "x", "times"))
    text = wording.format(a, b) if "{1}" in wording else wording.format(f"{a} {sign} {b}")
    return Draft(text, str(a * b))


def draft_mixed(dice: Dice, level: int) -> Draft:
    """Chain of operations with parentheses."""
    small = [dice.between(2, 9) for _ in range(6)]
    large = [dice.between(11, 99) for _ in range(6)]
    a, b, c, d, e, _ = small
    p, q, r, s, _, _ = large
    chains = (
        (
            (f"{p} + {a} * {b}", p + a * b),
            (f"({a} + {b}) * {c}", (a + b) * c),
            (f"{a} * {b} - {c}", a * b - c),
        ),
        (
            (f"({p} + {a}) * {b} - {c}", (p + a) * b - c),
            (f"{a} * {b} + {c} * {d}", a * b + c * d),
            (f"{p} - ({a} + {b}) * {c}", p - (a + b) * c),
        ),
        (
            (f"({p} + {q}) * ({a} - {r}) + {b}", (p + q) * (a - r) + b),
            (f"{p} * {a} - {q} * {b} + {c}", p * a - q * b + c),
            (f"{a} * ({p} - {b} * {c}) + {q}", a * (p - b * c) + q),
        ),
        (
            (f"{p} * {q} + ({r} - {s}) * {a} - {b}", p * q + (r - s) * a - b),
            (f"({p} - {a}) * ({q} + {b}) - {c} * {r}", (p - a) * (q + b) - c * r),
            (f"{p} * ({q} - {a} * ({b} + {c})) + {d} * {e}", p * (q - a * (b + c)) + d * e),
        ),
    )
    written, value = dice.pick(chains[level - 1])
    return Draft(dice.pick(ASKING).format(written), str(value))


ADD = Family((0.05, 0.2, 0.4, 0.65, 0.85), draft_add)
SUBTRACT = Family((0.08, 0.25, 0.45, 0.7), draft_subtract)
MULTIPLY = Family((0.1, 0.3, 0.5, 0.7, 0.9), draft_multiply)
MIXED = Family((0.35, 0.5, 0.7, 0.9), draft_mixed)
