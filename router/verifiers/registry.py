"""Every verifier by name, and the one that judges answers to a generated question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.questions.countdown import given
from router.verifiers.countdown import CountdownVerifier
from router.verifiers.reference import ReferenceVerifier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.questions.base import Question
    from router.verifiers.base import Verifier

VERIFIERS: Mapping[str, type[Verifier]] = {
    verifier.grader: verifier for verifier in (ReferenceVerifier, CountdownVerifier)
}


def for_question(question: Question) -> Verifier:
    """Give the verifier of ``question``: its rule where it has one, else its right answer."""
    if question.family == CountdownVerifier.grader:
        return CountdownVerifier(*given(question))
    return ReferenceVerifier(question.gold)
