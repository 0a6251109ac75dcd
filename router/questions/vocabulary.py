"""The words that questions are made of. A change here changes every generated question."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words(
    """
    Ada Amir Anna Ben Bo Carla Chen Dana Diego Elif Emma Eva Farid Femi Finn Grace Hana Hugo
    Ines Ivan Jonas Julia Kai Kofi Lara Leo Lina Luca Maya Mei Milan Nadia Nina Noah Olga Omar
    Paul Petra Priya Rafa Rosa Sam Sara Sven Tara Theo Uma Vera Wei Yara Zoe
    """
)
ITEMS = _words(
    """
    apples balloons beads books buttons cards coins cookies crayons eggs flowers marbles
    melons muffins notebooks nuts oranges pears pencils pens plums postcards shells stamps
    stickers tickets tomatoes tulips
    """
)
BOXES = _words(
    """
    bags baskets boxes bowls cartons crates jars packets shelves trays
    """
)
SHORT_WORDS = _words(
    """
    apple banana bottle button candle carrot cattle cheese coffee cotton dinner dollar eleven
    forest garden hammer insect jacket kettle kitten ladder lemon letter little mirror narrow
    needle olive orange paper pepper pillow planet puzzle rabbit ribbon river school seven
    silver spoon street summer tennis tomato tunnel velvet window winter yellow
    """
)
LONG_WORDS = _words(
    """
    accommodation anniversary assessment bookkeeper committee commission connection
    differential embarrassment encyclopedia engineering environment extraterrestrial
    grasshopper independence international mathematics millennium misunderstanding mississippi
    necessary neighborhood occurrence parallelogram photosynthesis possession questionnaire
    recommendation refrigerator representative responsibility satellite selfishness strawberry
    successful temperature tennessee transportation unbelievable unnecessary vaccination
    watermelon whistleblower
    """
)
MADE_UP_NOUNS = _words(
    """
    blickets dax fendles gorps jompers kibs lorps mips nurps pliks quems rompuses snarks tovs
    umpuses vempins wugs yimps zorps brints
    """
)
