"""Every verifier by name, reading one from the configuration, and the one for a question."""

from __future__ import annotations

from dataclasses import MISSING, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from router.errors import StrategyConfigError
from router.parameters import chosen, kind_of, read
from router.questions.countdown import given
from router.verifiers.arithmetic import ArithmeticVerifier
from router.verifiers.choices import ChoicesVerifier
from router.verifiers.countdown import CountdownVerifier
from router.verifiers.equivalence import EquivalenceVerifier
from router.verifiers.game24 import Game24Verifier
from router.verifiers.json_schema import JsonSchemaVerifier
from router.verifiers.judge import SelfJudge, StepJudge
from router.verifiers.number import NumberVerifier
from router.verifiers.pattern import PatternVerifier
from router.verifiers.predicate import PredicateVerifier
from router.verifiers.process_reward import ProcessRewardVerifier
from router.verifiers.program_check import ProgramCheck
from router.verifiers.reference import ReferenceVerifier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.questions.base import Question
    from router.verifiers.base import Verifier

VERIFIERS: Mapping[str, type[Any]] = {
    verifier.grader: verifier
    for verifier in (
        ReferenceVerifier,
        NumberVerifier,
        EquivalenceVerifier,
        ChoicesVerifier,
        PatternVerifier,
        JsonSchemaVerifier,
        CountdownVerifier,
        Game24Verifier,
        PredicateVerifier,
        ArithmeticVerifier,
        ProcessRewardVerifier,
        ProgramCheck,
        StepJudge,
        SelfJudge,
    )
}


def parse_verifier(value: object) -> Verifier:
    """Make the verifier that a configuration names.

    ``value`` is a name or a canonical text, or a mapping of one name to its parameters. Raises
    StrategyConfigError with the nearest name, parameter, or the range.
    """
    return _parsed(value) if isinstance(value, str) else _made(*chosen(value, "verifier"))


@lru_cache(maxsize=256)
def _parsed(text: str) -> Verifier:
    return _made(*read(text))


def _made(name: str, parameters: object) -> Verifier:
    kind, values = kind_of(name, parameters, VERIFIERS, "verifier")
    for parameter in fields(kind):
        if parameter.default is MISSING and parameter.name not in values:
            msg = f"{name}: {parameter.name} has no default; write {name}({parameter.name}=...)"
            raise StrategyConfigError(msg)
    verifier: Verifier = kind(**values)
    return verifier


def for_question(question: Question) -> Verifier:
    """Give the verifier of ``question``: its rule where it has one, else its right answer."""
    if question.family == CountdownVerifier.grader:
        return CountdownVerifier(*given(question))
    return ReferenceVerifier(question.gold)
