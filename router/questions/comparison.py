"""Which number is larger: pairs, decimals of unequal length, extremes of a list."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from policies.types import AnswerKind
from router.questions.base import Draft, Family

if TYPE_CHECKING:
    from router.chance import Dice

LETTERS = "ABCD"
PAIR_LARGER = (
    "Which number is larger, {} or {}?",
    "Which is the greater number: {} or {}?",
    "Between {} and {}, which number is larger?",
    "What is the larger number of {} and {}?",
)
PAIR_SMALLER = (
    "Which number is smaller, {} or {}?",
    "Which is the smaller number: {} or {}?",
    "Between {} and {}, which number is smaller?",
    "What is the smaller number of {} and {}?",
)
FROM_LIST = (
    "Which number is the {rank} of these: {listed}?",
    "What is the {rank} number in this list: {listed}?",
    "Here are some numbers: {listed}. Which number is the {rank}?",
)
OPTIONS = (
    "Which of these numbers is the {rank}?\n{options}",
    "Pick the {rank} number.\n{options}",
    "Which option shows the {rank} number?\n{options}",
)


def _pair(dice: Dice, a: Decimal, b: Decimal) -> Draft:
    wording, gold = dice.pick(
        ((dice.pick(PAIR_LARGER), max(a, b)), (dice.pick(PAIR_SMALLER), min(a, b)))
    )
    return Draft(wording.format(a, b), _plain(gold))


def _plain(value: Decimal) -> str:
    """Digits without trailing zeros or an exponent: the canonical form of a number."""
    return f"{value.normalize():f}"


def _close_decimals(dice: Dice) -> list[Decimal]:
    """Four different decimals between two whole numbers, with one to three decimal places."""
    whole = dice.between(1, 29)
    found: set[Decimal] = set()
    while len(found) < len(LETTERS):
        places = dice.between(1, 3)
        part = dice.between(1, 10**places - 1)
        found.add(Decimal(f"{whole}.{part:0{places}d}").normalize())
    return dice.shuffled(sorted(found))


def _ranked(dice: Dice, values: list[Decimal], ranks: tuple[str, ...]) -> tuple[str, Decimal]:
    rank = dice.pick(ranks)
    ordered = sorted(values, reverse=rank.endswith("largest"))
    return rank, ordered[1 if rank.startswith("second") else 0]


def _whole_pair(dice: Dice) -> Draft:
    a, b = dice.sample(range(1, 100), 2)
    return _pair(dice, Decimal(a), Decimal(b))


def _decimal_pair(dice: Dice) -> Draft:
    a, b, *_ = _close_decimals(dice)
    return _pair(dice, a, b)


def _options(dice: Dice) -> Draft:
    values = _close_decimals(dice)
    rank, gold = _ranked(dice, values, ("largest", "smallest"))
    lines = "\n".join(f"{x}) {value}" for x, value in zip(LETTERS, values, strict=True))
    text = dice.pick(OPTIONS).format(rank=rank, options=lines)
    return Draft(text, LETTERS[values.index(gold)], AnswerKind.CHOICE)


def _extreme(dice: Dice) -> Draft:
    values = [Decimal(x) for x in dice.sample(range(-999, 1000), 7)]
    return _from_list(dice, values, ("largest", "smallest"))


def _second(dice: Dice) -> Draft:
    values = [Decimal(x) for x in dice.sample(range(-20, 30), 4)]
    values += _close_decimals(dice) + [-value for value in _close_decimals(dice)[:2]]
    return _from_list(dice, dice.shuffled(values), ("second largest", "second smallest"))


def _from_list(dice: Dice, values: list[Decimal], ranks: tuple[str, ...]) -> Draft:
    rank, gold = _ranked(dice, values, ranks)
    text = dice.pick(FROM_LIST).format(rank=rank, listed=", ".join(map(str, values)))
    return Draft(text, _plain(gold))


LEVELS = (_whole_pair, _decimal_pair, _options, _extreme, _second)


def draft_compare(dice: Dice, level: int) -> Draft:
    """Pairs of whole numbers, of decimals, options with letters, lists, second places."""
    return LEVELS[level - 1](dice)


COMPARE = Family((0.05, 0.3, 0.45, 0.55, 0.8), draft_compare)
