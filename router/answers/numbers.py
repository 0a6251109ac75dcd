"""Numbers out of text, exact: signs, separators, fractions, powers, percent."""

from __future__ import annotations

import re
from fractions import Fraction

from router.answers.payloads import MAX_CHARS, payloads
from router.expressions import evaluate, plain_signs
from router.notation import NOT_RATIONAL, joined_digits, plain

MAX_DIGITS = 400
NUMBER = re.compile(
    r"(?:(?P<mantissa>(?:\d+(?:\.\d+)?|\.\d+))\s*[*]\s*)?10\s*(?:\^|\*\*)\s*"
    r"[{(]?(?P<power>[-+]?\d{1,9})[})]?"
    r"|(?P<whole>\d{1,9})\s(?P<over>\d{1,9})\s*/\s*(?P<under>\d{1,9})(?![\d.])"
    r"|(?P<number>(?:\d{1,3}(?:[,_\u202f\u00a0]\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
    r"(?P<exponent>[eE][-+]?\d+)?"
    r"(?:\s*/\s*(?P<divisor>\d+(?:\.\d+)?))?",
    re.ASCII,
)
POWER = re.compile(r"(?<=10)\*\*(?=[-+]?\d)")
"""``10**3``, told from bold text."""
CURRENCY = re.compile(r"[$€£¥₹]|\b(?:USD|EUR|GBP)\b")


def number_in_text(text: str) -> str | None:
    """Give the canonical number that a reply ends with; None where there is none."""
    text = text[-MAX_CHARS:]
    for payload, _ in payloads(text):
        side = _last_side(payload)
        if NOT_RATIONAL.search(side):
            return None
        found = _number_in(side)
        if found is not None:
            return found
    written = plain_signs(plain(text))
    values = [_value(match, written) for match in _numbers(written)[-1:]]
    return None if not values or values[0] is None else _canonical(values[0])


def _last_side(payload: str) -> str:
    """Give an explicit answer in plain text; what follows its last ``=`` where there is one."""
    side = POWER.sub("^", CURRENCY.sub(" ", plain_signs(plain(payload)))).replace("**", " ")
    side = re.sub(r"\([^()]*[A-Za-z]{2}[^()]*\)", " ", side)
    side = re.sub(r"[≈~]", "=", side).rstrip("= ").rpartition("=")[2].strip()
    return joined_digits(re.sub(r"^-\s+", "-", side))


def _number_in(side: str) -> str | None:
    """Read the value of arithmetic, else the first number."""
    whole = evaluate(side.rstrip(" .%")) if "," not in side else None
    if whole is not None and not re.search(r"\d\s+\d", side):
        return _canonical(whole.value)
    for match in _numbers(side):
        value = _value(match, side)
        return None if value is None else _canonical(value)
    return None


def _numbers(text: str) -> list[re.Match[str]]:
    """Numbers that stand by themselves: not the 2 of ``x2``."""
    return [
        match
        for match in NUMBER.finditer(text)
        if match.start() == 0
        or not (text[match.start() - 1].isalpha() or text[match.start() - 1] == "_")
    ]


def _value(match: re.Match[str], text: str) -> Fraction | None:
    """Exact value of a match with the sign before it; None beyond `MAX_DIGITS` digits."""
    if len(match[0]) > MAX_DIGITS:
        return None
    if match["power"] is not None:
        value = _scaled(Fraction(match["mantissa"] or 1), match["power"])
    elif match["whole"] is not None:
        part = _ratio(Fraction(match["over"]), match["under"])
        value = None if part is None else Fraction(match["whole"]) + part
    else:
        digits = Fraction(re.sub(r"[,_\u202f\u00a0]", "", match["number"]))
        value = _scaled(digits, (match["exponent"] or "e0")[1:])
        if value is not None and match["divisor"] is not None:
            value = _ratio(value, match["divisor"])
    if value is not None and _is_negative(text[: match.start()]):
        return -value
    return value


def _ratio(value: Fraction, divisor: str) -> Fraction | None:
    under = Fraction(divisor)
    return None if under == 0 else value / under


def _scaled(value: Fraction, power: str) -> Fraction | None:
    """``value`` x 10**``power``; None for a power that no written number needs."""
    digits = power.lstrip("+-0")
    if len(digits) > len(str(MAX_DIGITS)) or int(power) not in range(-MAX_DIGITS, MAX_DIGITS + 1):
        return None
    return value * Fraction(10) ** int(power)


def _is_negative(before: str) -> bool:
    """Tell a sign from a subtraction, which has an operand before it, and from a bullet."""
    before = before[-16:].rstrip("$€£¥₹(")
    sign = before.rstrip(" ")
    if not sign.endswith("-"):
        return False
    is_apart = sign != before
    left = sign[:-1]
    operand = left.rstrip(" ")[-1:]
    if operand in {"", "\n"}:
        return not is_apart
    if operand.isdigit() or operand in ")%":
        return False
    return not operand.isalpha() or (left.endswith(" ") and not is_apart)


def _canonical(value: Fraction) -> str:
    """Decimal digits where the value has finitely many, else a fraction in lowest terms."""
    twos, fives, rest = 0, 0, value.denominator
    while rest % 2 == 0:
        rest //= 2
        twos += 1
    while rest % 5 == 0:
        rest //= 5
        fives += 1
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    places = max(twos, fives)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"
