"""Few-shot prompts from the ledger: verified, of the tenant's own past, held before sending."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from parts import OUTPUT_NANO_USD, PRICE, PROMPT_NANO_USD, asks, catalog
from sqlalchemy import update

from policies.types import AnswerKind
from router.providers.base import bytes_bound
from router.providers.scripted import ScriptedProvider
from router.routing.catalog import Model
from router.routing.chooser import Chooser, ChooserSettings
from router.routing.exemplars import MAX_BYTES, Exemplars
from router.routing.service import RoutingService
from router.strategies.few_shot import load_exemplars
from storage.models import RequestRow
from storage.outcomes import Grade
from storage.verified import read_verified

if TYPE_CHECKING:
    from storage.store import Ledger

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
NEAR = "few_shot(n_exemplars=2, exemplars='nearest')"
NUMBER = {"answer_kind": AnswerKind.NUMBER, "kind_is_declared": True, "strategy": "few_shot"}


class Asking:
    """A gateway with one model that answers everything with 4, and a clock."""

    def __init__(self, ledger: Ledger, strategy: str = NEAR) -> None:
        self.provider = ScriptedProvider(lambda *_: "Answer: 4", "small")
        model = Model("small", self.provider, PRICE)
        self.found = catalog(model, strategies=(strategy,))
        self.now = NOW
        chooser = Chooser(self.found, ChooserSettings(exploration=0.0))
        self.ledger = ledger
        self.service = RoutingService(self.found, chooser, ledger, clock=lambda: self.now)

    async def ask(
        self,
        text: str,
        grade: float | None = 1.0,
        grader: str = "people",
        **more: Any,  # noqa: ANN401 - fields of a request
    ) -> list[str]:
        """Ask and grade; give what was shown before the question."""
        request = asks(text=text, **{**NUMBER, **more})
        served = await self.service.answer(request)
        assert served.answer.value == "4"
        if grade is not None:
            word = Grade(quality=grade, grader=grader, weight=1.0)
            await self.service.feedback(request.request_id, word, request.tenant)
        return [message.text for message in self.provider.requests[-1].messages[:-1]]

    def look(self, after_s: float = 60.0) -> None:
        """Let the gateway read what was verified."""
        self.now += timedelta(seconds=after_s)
        self.service.exemplars.follow(self.ledger, self.found, self.now)


async def test_the_nearest_verified_answers_are_shown_nearest_last(ledger: Ledger) -> None:
    """With the value that was right; what was found wrong or was never graded is not."""
    asking = Asking(ledger)
    await asking.ask("How many legs has a dog?")
    await asking.ask("How many legs has a grey horse?")
    await asking.ask("How many wheels has a car?")
    await asking.ask("How many legs has a grey spider?", grade=0.0)
    await asking.ask("How many legs has a grey cat?", grade=None)
    asking.look()
    assert await asking.ask("How many legs has a grey donkey?") == [
        "How many legs has a dog?",
        "Answer: 4",
        "How many legs has a grey horse?",
        "Answer: 4",
    ]


async def test_no_other_tenant_is_shown_nor_the_question_itself(ledger: Ledger) -> None:
    """Nor another kind of answer; the file's examples take the places that are left."""
    asking = Asking(ledger)
    await asking.ask("How many legs has a dog?", tenant="other")
    await asking.ask("how many  legs has a CAT?")
    await asking.ask("How many legs has a fly?", answer_kind=AnswerKind.EXPRESSION)
    asking.look()
    shown = await asking.ask("How many legs has a cat?")
    assert len(shown) == 4
    assert not any("legs" in text for text in shown)
    assert "legs" in (await asking.ask("How many legs has a cat?", tenant="other"))[2]


async def test_a_model_that_judges_itself_verifies_nothing(ledger: Ledger) -> None:
    """And somebody who disagrees takes back what another said."""
    asking = Asking(ledger)
    await asking.ask("How many legs has a dog?", grader="self_judge")
    await asking.ask("How many legs has a horse?")
    last = ledger.read(lambda s: read_verified(s, 100))
    assert [verified.question for verified in last] == [
        "How many legs has a horse?",
        "How many legs has a dog?",
    ]
    asking.look()
    assert "How many legs has a dog?" not in await asking.ask("How many legs has a cat?", None)
    request = asks(text="How many legs has a cow?", **NUMBER)
    await asking.service.answer(request)
    for grader, quality in (("a", 1.0), ("b", 0.0)):
        word = Grade(quality=quality, grader=grader, weight=1.0)
        await asking.service.feedback(request.request_id, word, "default")
    asking.look()
    assert "How many legs has a cow?" not in await asking.ask("How many legs has a cow now?")


async def test_the_longer_prompt_is_held_before_it_is_sent(ledger: Ledger) -> None:
    """And what is long, or beyond what the strategy shows, is not shown."""
    asking = Asking(ledger)
    await asking.ask("dog " * MAX_BYTES)
    await asking.ask("How many legs has a dog?")
    plain = asks(text="How many legs has a dog today?", **NUMBER)
    before = await asking.service.plan(plain)
    asking.look()
    after = await asking.service.plan(plain)
    shown = asking.service.exemplars.shown(plain).task.exemplars
    assert [exemplar.question for exemplar in shown] == ["How many legs has a dog?"]
    added = bytes_bound(shown[0].turns()) - bytes_bound(load_exemplars("")[1].turns())
    held = [plan.candidates[0].worst_case_nano_usd or 0 for plan in (before, after)]
    assert held[1] - held[0] == added * PROMPT_NANO_USD
    await asking.ask("How many legs has a dog today?")
    sent = asking.provider.requests[-1].messages
    assert bytes_bound(sent) * PROMPT_NANO_USD + 10 * OUTPUT_NANO_USD <= held[1]


async def test_texts_that_are_removed_are_shown_no_more(ledger: Ledger) -> None:
    """Within a quarter of an hour; new grades within a minute, and no sooner."""
    asking = Asking(ledger)
    asking.look()
    await asking.ask("How many legs has a dog?")
    asking.look(after_s=59.0)
    assert not any("dog" in text for text in await asking.ask("How many legs has a cat?"))
    asking.look(after_s=1.0)
    assert any("dog" in text for text in await asking.ask("How many legs has a cat?", None))
    ledger.write(lambda session: session.execute(update(RequestRow).values(query_text=None)))
    asking.look(after_s=900.0)
    assert not any("dog" in text for text in await asking.ask("How many legs has a cat?"))


async def test_without_a_strategy_that_shows_them_nothing_is_read(ledger: Ledger) -> None:
    """The prompts are as before."""
    asking = Asking(ledger, "few_shot(n_exemplars=2)")
    await asking.ask("How many legs has a dog?")
    asking.look()
    assert not any("legs" in text for text in await asking.ask("How many legs has a cat?"))
    shelf = Exemplars()
    shelf.follow(ledger, asking.found, NOW)
    assert shelf.shown(asks(**NUMBER)).task.exemplars == ()
