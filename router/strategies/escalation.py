"""Cascades by value: which arms run one after the other, and when an answer is good enough.

Written ``small|cot then escalate to large|direct until confident 0.8``, or by the name that a
policy knows a recorded cascade by: ``cascade|agree(small/cot > small/direct > large/direct)``,
``cascade|vote(small/cot x5, 3 agree > large/direct)``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cost_models.types import Arm
from policies.cascades import MIN_STAGES, Cascade, voted_arm
from router.errors import StrategyConfigError
from router.strategies.registry import parse_strategy
from router.strategies.vote import Vote
from router.verifiers.registry import parse_verifier

if TYPE_CHECKING:
    from collections.abc import Sequence

USUAL_CONFIDENCE = 0.8
VOTE = "vote"
AGREEING_STAGES = 3
"""Fewest stages at which agreement can spare one."""

THEN = re.compile(r"\s+then\s+(?:escalate\s+to\s+)?")
UNTIL = re.compile(r"\s+until\s+")
NEXT = re.compile(r"\s+>\s+")
TIMES = re.compile(r"\A(?P<name>.*?)(?:\s+x(?P<times>\d{1,2}))?\Z", re.DOTALL)
VOTED = re.compile(r"\A(?P<name>.+?) x(?P<samples>\d{1,3}), (?P<least>\d{1,3}) agree\Z", re.DOTALL)
"""The first stage of a recorded vote that may escalate."""
RECORDED = re.compile(
    r"\A(?:cascade\|)?(?P<rule>agree|vote|verified|confident_(?P<least>[\d.]+))"
    r"\((?P<stages>_*)\)(?:\s+by\s+(?P<verifier>.+))?\Z",
    re.DOTALL,
)
"""The name of a recorded cascade, what is in brackets masked."""
HOW = (
    "write MODEL|STRATEGY then escalate to MODEL|STRATEGY, and until agree, until verified by "
    "VERIFIER or until confident 0.8"
)


class Rule(StrEnum):
    """When a cascade stops before its last stage."""

    AGREE = "agree"
    VERIFIED = "verified"
    CONFIDENT = "confident"


@dataclass(frozen=True, slots=True)
class Escalation:
    """Stages in order, at least two, and the rule that stops them; the last has the final say.

    ``agree`` stops as soon as two stages gave the same answer (Yue et al. 2023,
    arXiv:2310.03094), ``verified`` when ``verifier`` gives an answer quality 1, ``confident`` when
    the stage's own confidence in (0, 1] reaches ``confidence`` (Chen et al. 2023,
    arXiv:2305.05176, with the model's own score).
    """

    stages: tuple[Arm, ...]
    rule: Rule = Rule.AGREE
    verifier: str | None = None
    confidence: float | None = None

    def __post_init__(self) -> None:
        if len(self.stages) < MIN_STAGES:
            msg = f"a cascade has at least {MIN_STAGES} stages; {HOW}"
            raise StrategyConfigError(msg)
        if self.rule is Rule.AGREE and len(self.stages) < AGREEING_STAGES:
            msg = (
                "two stages that have to agree are always both run; add a stage, or end with "
                "until confident 0.8 or until verified by VERIFIER"
            )
            raise StrategyConfigError(msg)
        if (self.verifier is not None) != (self.rule is Rule.VERIFIED):
            msg = f"a verified cascade names its verifier, {self.rule.value} ones have none; {HOW}"
            raise StrategyConfigError(msg)
        if self.rule is Rule.CONFIDENT and not 0.0 < (self.confidence or 0.0) <= 1.0:
            msg = f"the confidence of a cascade is above 0, to 1, got {self.confidence}"
            raise StrategyConfigError(msg)

    @property
    def arm(self) -> Arm:
        """The cascade as an arm, by the name that a recorded one has."""
        if (voted := self._voted()) is not None:
            return voted
        recorded = Cascade(self.stages, verified=self.rule is Rule.VERIFIED).arm
        if self.rule is not Rule.CONFIDENT:
            return recorded
        stages = recorded.strategy.removeprefix(Rule.AGREE)
        return Arm(recorded.model, f"{self.rule.value}_{self.confidence:g}{stages}")

    @property
    def judge(self) -> str:
        """Who decides about an answer: the verifier, or the rule with its confidence."""
        if self.rule is Rule.CONFIDENT:
            return f"{self.rule.value} {self.confidence:.3g}"
        return self.verifier or self.rule.value

    def _voted(self) -> Arm | None:
        """Name a vote of which so many have to agree as a recorded one, None for all others."""
        if self.rule is not Rule.CONFIDENT or len(self.stages) != MIN_STAGES:
            return None
        first, fallback = self.stages
        made = parse_strategy(first.strategy)
        if not isinstance(made, Vote) or made != Vote(of=made.of, samples=made.samples):
            return None
        least = round((self.confidence or 0.0) * made.samples)
        if least < 1 or least / made.samples != self.confidence:
            return None
        return voted_arm(Arm(first.model, made.of), made.samples, least, fallback)

    def __str__(self) -> str:
        first, *rest = (str(stage) for stage in self.stages)
        told = "".join(f" then escalate to {stage}" for stage in rest)
        how = {
            Rule.AGREE: "agree",
            Rule.VERIFIED: f"verified by {self.verifier}",
            Rule.CONFIDENT: f"confident {self.confidence}",
        }
        return f"{first}{told} until {how[self.rule]}"


def parse_escalation(text: object) -> Escalation:
    """Read either form of a cascade; StrategyConfigError says what is wrong with it."""
    if not isinstance(text, str):
        msg = f"a cascade is a text, got {text!r}; {HOW}"
        raise StrategyConfigError(msg)
    text = text.strip()
    named = RECORDED.match(_masked(text))
    if named is not None:
        return _from_name(named, text)
    parts = _split(UNTIL, text)
    stages = tuple(_stage(part) for part in _split(THEN, parts[0]))
    if len(parts) == 1:
        if len(stages) >= AGREEING_STAGES:
            return Escalation(stages)
        return Escalation(stages, Rule.CONFIDENT, confidence=USUAL_CONFIDENCE)
    return _with_rule(stages, parts[-1].strip())


def _with_rule(stages: tuple[Arm, ...], rule: str) -> Escalation:
    if rule == Rule.AGREE:
        return Escalation(stages)
    word, _, rest = rule.partition(" ")
    if word == Rule.VERIFIED and rest.strip().startswith("by "):
        verifier = str(parse_verifier(rest.strip().removeprefix("by ").strip()))
        return Escalation(stages, Rule.VERIFIED, verifier=verifier)
    if word == Rule.CONFIDENT:
        return Escalation(stages, Rule.CONFIDENT, confidence=_number(rest))
    msg = f"a cascade does not stop {rule!r}; {HOW}"
    raise StrategyConfigError(msg)


def _from_name(named: re.Match[str], text: str) -> Escalation:
    parts = _split(NEXT, text[slice(*named.span("stages"))].strip())
    if named["rule"] == VOTE:
        return _from_vote(parts, text)
    stages: list[Arm] = []
    for part in parts:
        run = TIMES.match(part)
        name, times = (part, "1") if run is None else (run["name"], run["times"] or "1")
        stages += [_named_stage(name)] * int(times)
    told = tuple(stages)
    if named["rule"] == Rule.VERIFIED:
        if named["verifier"] is None:
            msg = f"{text!r} needs a verifier; write {text} by VERIFIER"
            raise StrategyConfigError(msg)
        return _with_rule(told, f"verified by {text[named.start('verifier') :]}")
    if named["verifier"] is not None:
        msg = f"only verified(...) has a verifier, got {text!r}"
        raise StrategyConfigError(msg)
    if named["least"] is not None:
        return Escalation(told, Rule.CONFIDENT, confidence=_number(named["least"]))
    return Escalation(told)


def _from_vote(parts: Sequence[str], text: str) -> Escalation:
    first = VOTED.match(parts[0])
    if first is None or len(parts) != MIN_STAGES:
        msg = f"{text!r} is no vote; write vote(MODEL/STRATEGY x5, 3 agree > MODEL/STRATEGY)"
        raise StrategyConfigError(msg)
    source, fallback = _named_stage(first["name"]), _named_stage(parts[1])
    samples, least = int(first["samples"]), int(first["least"])
    vote = Vote(of=source.strategy, samples=samples)
    stages = (Arm(source.model, str(vote)), fallback)
    return Escalation(stages, Rule.CONFIDENT, confidence=least / samples)


def _named_stage(name: str) -> Arm:
    """Read a stage as names of arms have it, ``MODEL/STRATEGY``."""
    cut = _masked(name).rfind("/")
    return _stage(f"{name[:cut]}|{name[cut + 1 :]}" if cut > 0 else name)


def _stage(text: str) -> Arm:
    model, separator, strategy = text.strip().rpartition("|")
    if not separator or not model.strip():
        msg = f"a stage of a cascade is MODEL|STRATEGY, got {text.strip()!r}; {HOW}"
        raise StrategyConfigError(msg)
    return Arm(model.strip(), str(parse_strategy(strategy.strip())))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        msg = f"a confidence is a number above 0, to 1, got {text.strip()!r}"
        raise StrategyConfigError(msg) from error


def _split(separator: re.Pattern[str], text: str) -> list[str]:
    """Split at separators that stand outside brackets and quotes."""
    parts, start = [], 0
    for match in separator.finditer(_masked(text)):
        parts.append(text[start : match.start()])
        start = match.end()
    return [*parts, text[start:]]


def _masked(text: str) -> str:
    """Put an underscore in the place of every character within brackets or quotes."""
    told: list[str] = []
    depth, quote, escaped = 0, "", False
    for sign in text:
        inside = depth > 0
        if quote:
            ends = sign == quote and not escaped
            escaped = sign == "\\" and not escaped
            quote = "" if ends else quote
        elif sign in "'\"" and depth:
            quote = sign
        elif sign in "([{":
            depth += 1
        elif sign in ")]}":
            depth = max(0, depth - 1)
            inside = depth > 0
        told.append("_" if inside else sign)
    return "".join(told)
