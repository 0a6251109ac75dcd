"""Yes or no: what follows from an ordering or from two premises; half of the answers are no.

Nothing but the reasoning gives an answer away: premises come in random order, every valid form of
syllogism has an invalid twin with the same quantifiers, and names and nouns are random.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.types import AnswerKind
from router.questions.base import Draft, Family
from router.questions.vocabulary import MADE_UP_NOUNS, NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.chance import Dice

YES, NO = "yes", "no"
RELATIONS = (
    ("taller than", "shorter than"),
    ("older than", "younger than"),
    ("heavier than", "lighter than"),
    ("faster than", "slower than"),
    ("richer than", "poorer than"),
)
# (first premise, second premise, conclusion, follows) over the classes a, b and c.
SYLLOGISMS = (
    ("All {a} are {b}.", "All {b} are {c}.", "all {a} are {c}", True),
    ("All {a} are {b}.", "All {c} are {b}.", "all {a} are {c}", False),
    ("All {b} are {a}.", "All {c} are {b}.", "all {c} are {a}", True),
    ("All {b} are {a}.", "All {b} are {c}.", "all {c} are {a}", False),
    ("All {a} are {b}.", "Some {c} are {a}.", "some {c} are {b}", True),
    ("All {a} are {b}.", "Some {c} are {b}.", "some {c} are {a}", False),
    ("No {a} are {b}.", "All {c} are {a}.", "no {c} are {b}", True),
    ("No {a} are {b}.", "All {a} are {c}.", "no {c} are {b}", False),
    ("All {a} are {b}.", "No {b} are {c}.", "no {a} are {c}", True),
    ("All {a} are {b}.", "No {a} are {c}.", "no {b} are {c}", False),
)
ORDER_ASKED = (
    "Is {x} {relation} {y}, yes or no?",
    "Yes or no: is {x} {relation} {y}?",
    "Does it follow that {x} is {relation} {y}, yes or no?",
)
PROOF_ASKED = (
    "Does it follow that {x} is {relation} {y}, yes or no?",
    "Do these facts prove that {x} is {relation} {y}, yes or no?",
)
CLASSES_ASKED = (
    "Does it follow that {conclusion}, yes or no?",
    "Yes or no: does it follow that {conclusion}?",
    "Do these statements prove that {conclusion}, yes or no?",
)
N_PEOPLE = {1: 3, 2: 4, 4: 5, 5: 6}
SYLLOGISM_LEVEL = 3
OPEN_LEVEL = 5
"""From this level on some orders are left open, and then nothing follows."""


def draft_logic(dice: Dice, level: int) -> Draft:
    """Orderings of three to six people, and at level 3 syllogisms of invented nouns."""
    return _syllogism(dice) if level == SYLLOGISM_LEVEL else _ordering(dice, level)


def _syllogism(dice: Dice) -> Draft:
    first, second, conclusion, follows = dice.pick(SYLLOGISMS)
    names = dict(zip("abc", dice.sample(MADE_UP_NOUNS, 3), strict=True))
    premises = " ".join(dice.shuffled([first, second])).format(**names)
    asked = dice.pick(CLASSES_ASKED).format(conclusion=conclusion.format(**names))
    return Draft(f"{premises} {asked}", YES if follows else NO, AnswerKind.CHOICE)


def _ordering(dice: Dice, level: int) -> Draft:
    """Neighbours are compared, two that are not neighbours are asked about."""
    people = dice.sample(NAMES, N_PEOPLE[level])
    relations = dice.pick(RELATIONS)
    links = [(people[i], people[i + 1]) for i in range(len(people) - 1)]
    i = dice.below(len(people) - 2)
    j = dice.between(i + 2, len(people) - 1)
    high, low = people[i], people[j]
    follows = bool(dice.below(2))
    if level >= OPEN_LEVEL and not follows and dice.below(2):
        links = _opened(links, j)
        x, y = high, low
    else:
        x, y = (high, low) if follows else (low, high)
    premises = dice.shuffled([_said(dice, a, b, relations) for a, b in links])
    relation = dice.below(2)
    if relation:
        x, y = y, x
    wordings = PROOF_ASKED if level >= OPEN_LEVEL else ORDER_ASKED
    asked = dice.pick(wordings).format(x=x, y=y, relation=relations[relation])
    return Draft(f"{' '.join(premises)} {asked}", YES if follows else NO, AnswerKind.CHOICE)


def _opened(links: Sequence[tuple[str, str]], j: int) -> list[tuple[str, str]]:
    """Turn the link above person ``j`` round, so that nothing ties them to those further up."""
    return [(b, a) if at == j - 1 else (a, b) for at, (a, b) in enumerate(links)]


def _said(dice: Dice, high: str, low: str, relations: tuple[str, str]) -> str:
    if dice.below(2):
        return f"{high} is {relations[0]} {low}."
    return f"{low} is {relations[1]} {high}."


LOGIC = Family((0.3, 0.5, 0.6, 0.65, 0.8), draft_logic, balanced=(YES, NO))
