r"""Answers out of free text: canonical by kind, so that equal answers are equal strings.

An explicit final answer wins (``Answer: X``, ``\boxed{X}``, ``#### X``, the last one of them), then
a bold one on the last lines, then what the kind falls back to. Numbers are exact; a percent sign,
a currency and a unit are dropped, so ``50 %`` and ``50`` are the same answer. All work is bounded:
only the end of a text is read, and a number beyond `MAX_DIGITS` digits is no answer.
"""

from __future__ import annotations

import json
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from policies.types import AnswerKind
from router.expressions import evaluate, plain_signs
from router.notation import NOT_RATIONAL, joined_digits, plain, spaceless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MAX_CHARS = 20_000
MAX_PAYLOAD_CHARS = 400
MAX_MARKERS = 16
MAX_DIGITS = 400
MAX_JSON_CHARS = 1_000_000
MAX_JSON_STARTS = 64
N_LAST_LINES = 3

MARKER = re.compile(
    r"(?P<boxed>\\boxed\s*\{)"
    r"|^[ \t]{0,8}\#{4}[ \t](?=[ \t]{0,8}\S{1,60}[ \t]{0,8}$)"
    r"|\b(?:answer|final result)\b"
    r"(?:[*_\s]{0,4}[:=]|[^.\n:=]{0,40}?\b(?:is|are|was|equals)\b[*_\s]{0,4}:?)",
    re.IGNORECASE | re.MULTILINE,
)
BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")
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
LETTER = r"[A-J]"
CHOICE_ALONE = re.compile(
    rf"[\s*_\"'(\[]*(?:(?:the\s+)?(?:option|choice|answer)\s+)?[(\[]?"
    rf"(?:(?P<letter>{LETTER}|[a-j](?=[)\].:]|\W*$))|(?P<word>yes|no|true|false))\b",
    re.IGNORECASE,
)
CHOICE_IN_PARENTHESES = re.compile(rf"[(\[]({LETTER})[)\]]")
OPTION_WORD = re.compile(rf"\b(?:option|choice)\s+[(\[\"']?({LETTER})\b", re.IGNORECASE)
YES_OR_NO = re.compile(r"\b(yes|no)(?=\W*$|[.,!;)])", re.IGNORECASE)
APOSTROPHES = ("'", "\N{RIGHT SINGLE QUOTATION MARK}")
TRUTH = {"yes": "yes", "no": "no", "true": "yes", "false": "no"}
FENCE = "```"
ARITHMETIC_SPAN = re.compile(r"(?<![\w^.\\])[\d(][\d\s.+\-*/()]*[\d)](?![\w^])", re.ASCII)
MATH_WORD = re.compile(r"\\?(?:sqrt|sin|cos|tan|log|ln|exp|pi)(?![A-Za-z])")
PROSE = re.compile(r"[A-Za-z]{2,}")
JSON_START = re.compile(r"[{\[]")
TOOL_CALL_TAG = "<tool_call>"
MAX_TOOL_CALLS = 32

FORMAT_HINTS: Mapping[AnswerKind, str] = {
    AnswerKind.NUMBER: "End with one last line 'Answer: X', where X is only the number.",
    AnswerKind.CHOICE: "End with one last line 'Answer: X', where X is only your choice "
    "(the letter of an option, or yes or no).",
    AnswerKind.EXPRESSION: "End with one last line 'Answer: X', where X is only the expression.",
    AnswerKind.CODE: "End with the whole program in one fenced code block.",
    AnswerKind.JSON: "End with the JSON in one fenced code block.",
    AnswerKind.TOOL_CALL: "",
    AnswerKind.TEXT: "",
}
DIRECT_HINTS: Mapping[AnswerKind, str] = {
    AnswerKind.NUMBER: "Reply with only the number, nothing else.",
    AnswerKind.CHOICE: "Reply with only your choice (the letter of an option, or yes or no), "
    "nothing else.",
    AnswerKind.EXPRESSION: "Reply with only the expression, nothing else.",
    AnswerKind.CODE: "Reply with only the program, in one fenced code block.",
    AnswerKind.JSON: "Reply with only the JSON, nothing else.",
    AnswerKind.TOOL_CALL: "",
    AnswerKind.TEXT: "",
}


def extract(text: str, kind: AnswerKind) -> str | None:
    """Give the canonical answer in ``text``; None when there is none. Free text has none."""
    reader = READERS.get(kind)
    return None if reader is None else reader(text)


def same(a: str, b: str, kind: AnswerKind) -> bool:
    """Tell whether two answers, canonical or in replies, are equal.

    Free text is only if its words are, whatever their case. What cannot be read as an answer of
    its kind equals nothing.
    """
    if kind is AnswerKind.TEXT:
        return a.casefold().split() == b.casefold().split()
    left, right = extract(a, kind), extract(b, kind)
    if kind in NOT_FOUND_AGAIN:
        left, right = left or a.strip(), right or b.strip()
    return left is not None and left == right


def format_hint(kind: AnswerKind) -> str:
    """Give the instruction for the end of a reasoned reply; empty where none is needed."""
    return FORMAT_HINTS[kind]


def direct_hint(kind: AnswerKind) -> str:
    """Give the instruction for a reply that is the answer alone; empty where none is needed."""
    return DIRECT_HINTS[kind]


OPERAND = r"\s*[-(]*\s*\d[\d.,]*[\s)]*"
OPERATOR = r"(?:[-+*/^%\N{MULTIPLICATION SIGN}\N{DIVISION SIGN}x]|plus|minus|times|divided by)"
NOT_FOUND_AGAIN = frozenset({AnswerKind.CODE, AnswerKind.EXPRESSION})
"""Kinds whose canonical form has lost what marked it in the reply (a fence, a box)."""
# The order matters: the first pattern that is found decides.
KIND_SIGNS: tuple[tuple[AnswerKind, re.Pattern[str]], ...] = (
    (
        AnswerKind.JSON,
        re.compile(
            r"\b(?:valid|as|in|a|only|return|output)\s+json\b|\bjson (?:object|array|document)\b",
            re.IGNORECASE,
        ),
    ),
    (
        AnswerKind.CODE,
        re.compile(
            r"\b(?:write|implement|complete|give)\b[^.?!\n]{0,60}"
            r"\b(?:function|program|script|class|method|regex|sql query)\b",
            re.IGNORECASE,
        ),
    ),
    (
        AnswerKind.EXPRESSION,
        re.compile(
            r"\A(?=.*[+*/])(?=.*\b(?:target|equals?|makes?|reach)\b)"
            r"(?=.*\b(?:using|use|combine)\b.{0,40}\bnumbers\b)",
            re.IGNORECASE | re.DOTALL,
        ),
    ),
    (
        AnswerKind.TEXT,
        re.compile(
            r"\b(?:explain|describe|discuss|summari[sz]e|translate|rewrite|write|compose|draft"
            r"|brainstorm|why|essay|poem|story|suggest|recommend|contrast)\b"
            r"|\blist (?:the|all|some|\d)",
            re.IGNORECASE,
        ),
    ),
    (
        AnswerKind.CHOICE,
        re.compile(
            r"\byes or no\b|\btrue or false\b|(?:^|\s)\(?A[).:]\s[^\n]{1,200}?\s\(?B[).:]\s",
            re.IGNORECASE,
        ),
    ),
    (AnswerKind.NUMBER, re.compile(r"\bhow many\b", re.IGNORECASE)),
    (
        AnswerKind.NUMBER,
        re.compile(
            r"\A(?=.*\d)(?=.*(?:"
            r"\bhow (?:much|far|long|old|tall|fast)\b[^?]*\?"
            r"|\b(?:calculate|compute|evaluate|work out|solve|what(?:'s| is| does)|get for"
            rf"|value of|left of){OPERAND}{OPERATOR}"
            r"|\b(?:subtract|multiply|divide)\s+\d"
            r"|\badd\s+(?:these numbers|\d[\d.,]* (?:and|to) \d)"
            r"|\b(?:sum|product|difference|quotient|remainder) (?:of|between|when) [-(]*\d"
            r"|\b(?:largest|smallest|larger|smaller|greater|greatest|highest|lowest) number\b"
            r"|\bwhich number\b))",
            re.IGNORECASE | re.DOTALL,
        ),
    ),
)


def detect_kind(text: str) -> AnswerKind:
    """Guess what kind of answer a request asks for; `TEXT` whenever that is not plain."""
    tail = text[-MAX_CHARS:]
    return next((kind for kind, sign in KIND_SIGNS if sign.search(tail)), AnswerKind.TEXT)


def _payloads(text: str) -> Iterator[tuple[str, bool]]:
    """Yield explicit final answers, last first, each with whether it was boxed."""
    for match in reversed(list(MARKER.finditer(text))[-MAX_MARKERS:]):
        if match["boxed"]:
            boxed = _braced(text, match.end())
            if boxed is not None:
                yield boxed, True
        else:
            rest = text[match.end() : match.end() + MAX_PAYLOAD_CHARS].lstrip()
            yield rest.partition("\n")[0], False
    lines = [line for line in text.splitlines() if line.strip()][-N_LAST_LINES:]
    for line in reversed(lines):
        for bold in reversed(BOLD.findall(line[-MAX_PAYLOAD_CHARS:])):
            yield bold, False


def _braced(text: str, start: int) -> str | None:
    """Text up to the brace that closes the one before ``start``."""
    depth = 1
    for i in range(start, min(len(text), start + MAX_PAYLOAD_CHARS)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start:i]
    return None


def _number(text: str) -> str | None:
    text = text[-MAX_CHARS:]
    for payload, _ in _payloads(text):
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


def _choice(text: str) -> str | None:
    text = text[-MAX_CHARS:].strip()
    for payload, _ in _payloads(text):
        found = _choice_at_start(plain(payload), explicit=True)
        if found is not None:
            return found
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    last = lines[-1][-MAX_PAYLOAD_CHARS:]
    for pattern in (OPTION_WORD, CHOICE_IN_PARENTHESES):
        letters = pattern.findall(last)
        if letters:
            return str(letters[-1]).upper()
    for line in (last, lines[0][:MAX_PAYLOAD_CHARS]):
        found = _choice_at_start(line, explicit=False)
        if found is not None:
            return found
    words = YES_OR_NO.findall(last)
    return str(words[-1]).lower() if words else None


def _choice_at_start(line: str, *, explicit: bool) -> str | None:
    """Choice that ``line`` begins with, when that is not a word of its sentence."""
    match = CHOICE_ALONE.match(line)
    if match is None:
        return None
    rest = line[match.end() :]
    if match["word"]:
        is_apart = explicit or not rest.strip() or rest.lstrip("*_\"' ")[:1] in tuple(".,!;:-")
        return TRUTH[match["word"].lower()] if is_apart else None
    letter = str(match["letter"]).upper()
    is_word = letter in "AI" and re.match(r"\s+[A-Za-z]", rest)
    if explicit and re.match(r"\s+(?:is|because|since|as)\b", rest):
        is_word = None
    return None if is_word or rest[:1] in APOSTROPHES else letter


def _expression(text: str) -> str | None:
    text = text[-MAX_CHARS:]
    for payload, boxed in _payloads(text):
        found = _expression_in(payload, boxed=boxed)
        if found is not None:
            return found
    for line in reversed([line for line in text.splitlines() if line.strip()]):
        written = plain_signs(plain(line[-MAX_PAYLOAD_CHARS:]))
        for span in reversed(ARITHMETIC_SPAN.findall(written)):
            if re.search(r"[-+*/]", span) and evaluate(span) is not None:
                return spaceless(span)
    return None


def _expression_in(payload: str, *, boxed: bool) -> str | None:
    written = plain_signs(plain(payload.strip().strip("`$").removeprefix("**")))
    written = written.strip(" \t`$").removesuffix("**").rstrip(" .;,$`")
    sides = [side.strip(" $`*") for side in written.split("=")]
    worked = [side for side in sides if evaluate(side) is not None]
    if worked:
        return spaceless(next((s for s in worked if re.search(r"\d\s*[-+*/]", s)), worked[0]))
    for span in ARITHMETIC_SPAN.findall(written):
        if re.search(r"[-+*/]", span) and evaluate(span) is not None:
            return spaceless(span)
    if not written or (not boxed and PROSE.search(MATH_WORD.sub("", written))):
        return None
    return spaceless(written)


def _last_block(text: str) -> str | None:
    """Text of the last fenced block that is closed."""
    block: list[str] | None = None
    last: list[str] | None = None
    for line in text.splitlines():
        if block is None:
            block = [] if line.lstrip().startswith(FENCE) else None
        elif line.strip() == FENCE:
            last, block = block, None
        else:
            block.append(line)
    return None if last is None else "\n".join(last)


def _code(text: str) -> str | None:
    block = _last_block(text)
    if block is None:
        return None
    return "\n".join(line.rstrip() for line in block.splitlines()).strip("\n") or None


def _json(text: str) -> str | None:
    found, value = _json_value(text)
    return _dumped(value) if found else None


def _dumped(value: object) -> str | None:
    """Canonical text; None for what JSON cannot say, lone surrogates among it."""
    try:
        dumped = json.dumps(
            value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
        )
        dumped.encode()
    except (ValueError, RecursionError):
        return None
    return dumped


def _json_value(text: str) -> tuple[bool, Any]:
    """Find the JSON of a reply: all of it, its last fenced block, or its last object or array."""
    if len(text) > MAX_JSON_CHARS:
        return False, None
    for whole in (text, _last_block(text) or ""):
        try:
            return True, DECODER.decode(whole.strip())
        except (ValueError, RecursionError):
            continue
    found: tuple[bool, Any] = (False, None)
    position = 0
    for _ in range(MAX_JSON_STARTS):
        start = JSON_START.search(text, position)
        if start is None:
            break
        try:
            value, position = DECODER.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            position = start.end()
        else:
            found = (True, value)
    return found


def _json_number(text: str) -> int | float:
    """Read a number with a point or exponent: 1.0 is the same answer as 1."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 1e15 else value  # noqa: PLR2004


def _no_constant(name: str) -> object:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


DECODER = json.JSONDecoder(parse_float=_json_number, parse_constant=_no_constant)


def _tool_call(text: str) -> str | None:
    """Canonical JSON of ``[{"arguments": ..., "name": ...}]``; ids are not part of an answer."""
    tagged = text.split(TOOL_CALL_TAG, MAX_TOOL_CALLS)[1:]
    parts = [part.partition("</tool_call>")[0] for part in tagged] or [text]
    values = [_json_value(part) for part in parts]
    calls = []
    for found, value in values:
        if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
            value = value["tool_calls"]  # noqa: PLW2901 - the list is the value
        items = value if isinstance(value, list) else [value]
        normal = [_normal_call(item) for item in items]
        if not found or None in normal:
            return None
        calls.extend(normal)
    return _dumped(calls) if calls else None


def _normal_call(item: object) -> dict[str, Any] | None:
    """Name and parsed arguments of one call in OpenAI or plain form."""
    if isinstance(item, dict) and isinstance(item.get("function"), dict):
        item = item["function"]
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        return None
    arguments = item.get("arguments", item.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = DECODER.decode(arguments or "{}")
        except (ValueError, RecursionError):
            return None
    return {"name": item["name"], "arguments": arguments}


READERS: Mapping[AnswerKind, Callable[[str], str | None]] = {
    AnswerKind.NUMBER: _number,
    AnswerKind.CHOICE: _choice,
    AnswerKind.EXPRESSION: _expression,
    AnswerKind.CODE: _code,
    AnswerKind.JSON: _json,
    AnswerKind.TOOL_CALL: _tool_call,
}
