"""How often a letter occurs in a word or a phrase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.questions.base import Draft, Family
from router.questions.vocabulary import LONG_WORDS, SHORT_WORDS

if TYPE_CHECKING:
    from router.chance import Dice

ASKING = (
    'How many times does the letter "{letter}" occur in {place}?',
    'How many "{letter}"s are there in {place}?',
    'Count the letter "{letter}" in {place}. How many are there?',
    'In {place}, how many letters are "{letter}"?',
)
N_WORDS = (1, 1, 3, 6)
"""Words by level; level 1 takes short ones."""
N_COMMON = 3
"""A third of the questions asks for one of the most frequent letters, so counts spread."""


def draft_letters(dice: Dice, level: int) -> Draft:
    """Count one letter, which occurs at least once."""
    n_words = N_WORDS[level - 1]
    words = dice.sample(
        SHORT_WORDS if level == 1 else LONG_WORDS + SHORT_WORDS * (n_words > 1), n_words
    )
    phrase = " ".join(words)
    letters = sorted(set(phrase) - {" "}, key=lambda x: (-phrase.count(x), x))
    letter = dice.pick(letters[:N_COMMON] if dice.below(2) else letters)
    place = f'the word "{phrase}"' if n_words == 1 else f'the phrase "{phrase}"'
    text = dice.pick(ASKING).format(letter=letter, place=place)
    return Draft(text, str(phrase.count(letter)))


LETTERS = Family((0.3, 0.5, 0.7, 0.85), draft_letters)
