"""Word problems of one, two and three steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.questions.base import Draft, Family
from router.questions.vocabulary import BOXES, ITEMS, NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.chance import Dice

SINGULAR = {"boxes": "box", "shelves": "shelf"}


class Scene:
    """Random names, things and numbers for one story."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self.a, self.b, self.c = dice.sample(NAMES, 3)
        self.items, self.others = dice.sample(ITEMS, 2)
        self.boxes = dice.pick(BOXES)
        self.box = SINGULAR.get(self.boxes, self.boxes.removesuffix("s"))

    def number(self, low: int, high: int) -> int:
        """Whole number in [``low``, ``high``]."""
        return self._dice.between(low, high)


Told = tuple[str, int]


def _get_more(s: Scene) -> Told:
    n, more = s.number(5, 60), s.number(3, 40)
    return (
        (
            f"{s.a} has {n} {s.items}. {s.b} gives {s.a} {more} more. "
            f"How many {s.items} does {s.a} have now?"
        ),
        n + more,
    )


def _give_away(s: Scene) -> Told:
    left, given = s.number(3, 40), s.number(3, 40)
    return (
        (
            f"{s.a} had {left + given} {s.items} and gave {given} of them to {s.b}. "
            f"How many {s.items} does {s.a} have left?"
        ),
        left,
    )


def _boxes(s: Scene) -> Told:
    n, each = s.number(3, 12), s.number(3, 15)
    return (
        (
            f"There are {n} {s.boxes} with {each} {s.items} in each. "
            f"How many {s.items} are there altogether?"
        ),
        n * each,
    )


def _share(s: Scene) -> Told:
    friends, each = s.number(3, 9), s.number(3, 14)
    return (
        (
            f"{s.a} shares {friends * each} {s.items} equally among {friends} friends. "
            f"How many {s.items} does each friend get?"
        ),
        each,
    )


def _difference(s: Scene) -> Told:
    n, more = s.number(5, 50), s.number(3, 45)
    return (
        (
            f"{s.a} picked {n + more} {s.items} and {s.b} picked {n}. "
            f"How many more {s.items} did {s.a} pick than {s.b}?"
        ),
        more,
    )


def _boxes_and_loose(s: Scene) -> Told:
    n, each, loose = s.number(3, 12), s.number(4, 15), s.number(3, 30)
    return (
        (
            f"{s.a} buys {n} {s.boxes} of {s.items} with {each} in each {s.box}, and already has "
            f"{loose} {s.items} at home. How many {s.items} does {s.a} have in all?"
        ),
        n * each + loose,
    )


def _change(s: Scene) -> Told:
    n, price, extra = s.number(3, 9), s.number(2, 12), s.number(2, 40)
    paid = n * price + extra
    return (
        (
            f"{s.a} buys {n} {s.items} for {price} dollars each and pays with {paid} dollars. "
            f"How many dollars does {s.a} get back?"
        ),
        extra,
    )


def _give_and_find(s: Scene) -> Told:
    n, given, found = s.number(30, 80), s.number(5, 25), s.number(4, 40)
    return (
        (
            f"{s.a} starts with {n} {s.items}, gives {given} to {s.b} and later finds {found} "
            f"more. How many {s.items} does {s.a} have at the end?"
        ),
        n - given + found,
    )


def _two_pickers(s: Scene) -> Told:
    n, more = s.number(8, 50), s.number(4, 30)
    return (
        (
            f"{s.a} collected {n} {s.items}. {s.b} collected {more} more than {s.a}. "
            f"How many {s.items} did the two collect together?"
        ),
        2 * n + more,
    )


def _share_after(s: Scene) -> Told:
    friends, each, eaten = s.number(3, 8), s.number(4, 12), s.number(3, 20)
    return (
        (
            f"{s.a} had {friends * each + eaten} {s.items} and lost {eaten} of them. The rest was "
            f"shared equally by {friends} children. How many {s.items} did each child get?"
        ),
        each,
    )


def _shop(s: Scene) -> Told:
    n, price, m, other = s.number(3, 12), s.number(3, 15), s.number(3, 12), s.number(3, 15)
    extra = s.number(5, 60)
    paid = n * price + m * other + extra
    return (
        (
            f"{s.a} buys {n} {s.items} at {price} dollars each and {m} {s.others} at {other} "
            f"dollars each, and pays with {paid} dollars. How many dollars does {s.a} get back?"
        ),
        extra,
    )


def _multiples(s: Scene) -> Told:
    n, times, fewer = s.number(6, 30), s.number(2, 5), s.number(2, 5)
    return (
        (
            f"{s.a} has {n} {s.items}. {s.b} has {times} times as many as {s.a}, and {s.c} has "
            f"{fewer} fewer than {s.b}. How many {s.items} do the three have together?"
        ),
        n + 2 * n * times - fewer,
    )


def _bakery(s: Scene) -> Told:
    days, each, sold, left = s.number(3, 7), s.number(12, 40), s.number(5, 20), s.number(10, 60)
    per_day = each + sold
    return (
        (
            f"A shop gets {per_day} {s.items} a day for {days} days and sells {sold} of them every "
            f"day. It had {left} {s.items} before. How many {s.items} does it have after the "
            f"{days} days?"
        ),
        left + days * each,
    )


def _pack(s: Scene) -> Told:
    groups, each, kept, second = (
        s.number(4, 9),
        s.number(5, 15),
        s.number(4, 30),
        s.number(20, 60),
    )
    total = groups * each + kept
    first = total - min(second, total - 1)
    return (
        (
            f"{s.a} has {first} {s.items} and {s.b} has {total - first}. They put all "
            f"their {s.items} together, keep {kept} of them and pack the rest evenly into "
            f"{groups} {s.boxes}. How many {s.items} go into each {s.box}?"
        ),
        each,
    )


def _trip(s: Scene) -> Told:
    speed, hours, second, pause = s.number(40, 90), s.number(2, 6), s.number(2, 5), s.number(5, 30)
    slower = speed - pause
    return (
        (
            f"{s.a} drives {hours} hours at {speed} km per hour and then {second} hours at "
            f"{slower} km per hour. The whole way is {speed * hours + slower * second + pause} km "
            f"long. How many kilometres are left?"
        ),
        pause,
    )


STORIES: tuple[tuple[Callable[[Scene], Told], ...], ...] = (
    (_get_more, _give_away, _boxes, _share, _difference),
    (_boxes_and_loose, _change, _give_and_find, _two_pickers, _share_after),
    (_shop, _multiples, _bakery, _pack, _trip),
)


def draft_word(dice: Dice, level: int) -> Draft:
    """Story of ``level`` steps."""
    text, gold = dice.pick(STORIES[level - 1])(Scene(dice))
    return Draft(text, str(gold))


WORD = Family((0.2, 0.5, 0.75), draft_word)
