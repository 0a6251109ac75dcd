"""Offers: who can serve a request, at what worst case, and why the others are out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parts import (
    OUTPUT_NANO_USD,
    PROMPT_BOUND,
    PROMPT_NANO_USD,
    TEXT,
    WORST,
    asks,
    catalog,
    scripted,
)

from cost_models.estimates import Throughput
from cost_models.money import NANO_PER_USD
from cost_models.types import Arm
from policies.types import AnswerKind
from router.errors import RequestError
from router.routing.candidates import VOTABLE_KINDS, Offer, offers
from router.strategies.registry import parse_strategy
from router.types import Message

if TYPE_CHECKING:
    from router.routing.catalog import Catalog

VOTE = "self_consistency(samples=5)"
SEVERAL = catalog(
    scripted("small"), scripted("large", times=10), strategies=("direct", "cot", VOTE)
)


def rejected(offered: tuple[Offer, ...]) -> dict[str, str | None]:
    """Why each arm is out, None for one that is feasible."""
    return {str(offer.arm): offer.rejected for offer in offered}


def only(found: Catalog, **more: Any) -> Offer:  # noqa: ANN401 - what `asks` takes
    """Give the one offer for a request."""
    (offer,) = offers(found, asks(**more))
    return offer


def test_every_model_comes_with_every_strategy() -> None:
    """``auto`` considers all arms, in the order of the config."""
    offered = offers(SEVERAL, asks(answer_kind=AnswerKind.NUMBER))
    assert [offer.arm for offer in offered] == list(SEVERAL.arms)
    assert [offer.arm.model for offer in offered] == ["small"] * 3 + ["large"] * 3
    assert set(rejected(offered).values()) == {None}


def test_the_worst_case_of_a_plain_call_by_hand() -> None:
    """51 prompt tokens at 1000 nano-USD and 10 completion tokens at 2000."""
    assert PROMPT_BOUND == 51
    offer = only(catalog(scripted("small")))
    assert offer.prompt_tokens == 51
    assert offer.worst_case_nano_usd == offer.first_call_nano_usd == 71_000 == WORST


def test_the_worst_case_of_several_completions_by_hand() -> None:
    """The prompt is billed once for all where the upstream takes n, else for each."""
    assert only(catalog(scripted("small")), n=3).worst_case_nano_usd == 51_000 + 3 * 20_000
    apart = catalog(scripted("small", native_n=False))
    assert only(apart, n=3).worst_case_nano_usd == 3 * 71_000


def test_the_worst_case_of_a_vote_by_hand() -> None:
    """Five samples come in batches of four and one, each with the prompt and the added hint."""
    offer = only(SEVERAL, model="small", strategy=VOTE, answer_kind=AnswerKind.NUMBER)
    first, second = offer.calls
    assert (first.n_samples, second.n_samples) == (4, 1)
    assert first.prompt_tokens == second.prompt_tokens > 51
    prompt = first.prompt_tokens * PROMPT_NANO_USD
    assert offer.first_call_nano_usd == prompt + 4 * 10 * OUTPUT_NANO_USD
    assert offer.worst_case_nano_usd == 2 * prompt + 5 * 10 * OUTPUT_NANO_USD


def test_the_worst_case_on_an_owned_machine_includes_its_time() -> None:
    """51 / 100 + 10 / 10 = 1.51 s, stopped at twice that; here tokens are paid too."""
    slow = Throughput(100, 10, worst_case_slowdown=2.0)
    offer = only(catalog(scripted("small", throughput=slow)))
    assert offer.worst_case_nano_usd == WORST
    assert slow.worst_case_s(offer.calls[0], native_n=True) == pytest.approx(3.02)


def test_a_dearer_model_holds_more() -> None:
    """Ten times the price is ten times the worst case."""
    cheap, dear = offers(
        catalog(scripted("small"), scripted("large", times=10)), asks(max_tokens=7)
    )
    assert dear.worst_case_nano_usd == 10 * cheap.worst_case_nano_usd


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        pytest.param({"extra": {"tools": [{"type": "function"}]}}, "tool calls", id="tools"),
        pytest.param({"n": 2}, "asks for several", id="n above 1"),
    ],
)
def test_only_the_plain_arm_passes_through_what_a_strategy_cannot_keep(
    asked: dict[str, Any], reason: str
) -> None:
    """Tools and several choices leave ``direct`` alone in."""
    found = rejected(offers(SEVERAL, asks(answer_kind=AnswerKind.NUMBER, **asked)))
    assert [arm for arm, why in found.items() if why is None] == ["small|direct", "large|direct"]
    assert all(reason in why for why in found.values() if why is not None)


def test_a_response_format_leaves_in_what_draws_samples_and_keeps_it() -> None:
    """A chain of thought would break the format; votes are held among samples that keep it."""
    form = {"response_format": {"type": "json_object"}}
    found = rejected(offers(SEVERAL, asks(answer_kind=AnswerKind.JSON, extra=form)))
    for arm, why in found.items():
        keeps = parse_strategy(arm.split("|")[1]).needs.formats
        assert (why is None) == keeps, arm
        assert keeps or "response format" in str(why)
    assert {keeps is None for keeps in found.values()} == {True, False}


def test_no_tools_given_is_no_reason_to_be_out() -> None:
    """An empty list of tools asks for nothing."""
    asked = asks(answer_kind=AnswerKind.NUMBER, extra={"tools": [], "response_format": None})
    assert set(rejected(offers(SEVERAL, asked)).values()) == {None}


def test_log_probabilities_are_given_where_the_shown_answer_is_one_sample() -> None:
    """Every strategy of today shows a sample that was drawn with them."""
    asked = asks(answer_kind=AnswerKind.NUMBER, logprobs=True)
    for offer in offers(SEVERAL, asked):
        assert offer.strategy.needs.logprobs is (offer.rejected is None)


@pytest.mark.parametrize("kind", list(AnswerKind))
def test_only_answers_that_can_be_compared_are_voted_on(kind: AnswerKind) -> None:
    """The vote is out for text, code and tool calls, and says so; nothing else is."""
    found = rejected(offers(SEVERAL, asks(answer_kind=kind)))
    assert found["small|direct"] is found["small|cot"] is None
    reason = found[f"small|{VOTE}"]
    if kind in VOTABLE_KINDS:
        assert reason is None
    else:
        assert reason is not None
        assert repr(kind.value) in reason


def test_a_prompt_fills_the_context_exactly_or_not() -> None:
    """The prompt, of four bytes a token, and the answer may reach the window, not pass it."""
    assert only(catalog(scripted("small", context_tokens=23))).rejected is None
    offer = only(catalog(scripted("small", context_tokens=22)))
    assert offer.rejected == "about 23 tokens do not fit its context of 22 tokens"
    assert offer.too_long
    assert not offer.too_dear


def test_what_a_strategy_adds_counts_towards_the_context() -> None:
    """The plain arm fits where the one that adds a hint does not."""
    small = scripted("small", context_tokens=25)
    plain, steps = offers(catalog(small, strategies=("direct", "cot")), asks())
    assert plain.rejected is None
    assert steps.too_long


def test_an_answer_is_not_allowed_more_than_the_model_can_say() -> None:
    """``max_tokens`` above the model's own limit is refused, not cut in silence."""
    assert only(catalog(scripted("small", max_output_tokens=10))).rejected is None
    offer = only(catalog(scripted("small", max_output_tokens=9)))
    assert offer.rejected == "max_tokens 10 is above the model's limit of 9"
    assert offer.too_long


def test_a_cap_on_cost_admits_an_arm_whose_first_call_fits_exactly() -> None:
    """One nano-USD less and it is out, with both figures."""
    assert only(catalog(scripted("small")), max_cost_usd=71e-6).rejected is None
    offer = only(catalog(scripted("small")), max_cost_usd=70.999e-6)
    assert offer.rejected == (
        "its first call can cost 0.000071000 USD, above max_cost_usd 0.000070999"
    )
    assert offer.too_dear
    assert not offer.too_long


def test_no_more_than_the_cap_on_cost_is_held() -> None:
    """A vote whose first batch fits is held at the cap: the meter stops it there."""
    asked = {"model": "small", "strategy": VOTE, "answer_kind": AnswerKind.NUMBER}
    free = only(SEVERAL, **asked)
    cap = (free.first_call_nano_usd + 1) / NANO_PER_USD
    capped = only(SEVERAL, **asked, max_cost_usd=cap)
    assert capped.rejected is None
    assert capped.worst_case_nano_usd == free.first_call_nano_usd + 1 < free.worst_case_nano_usd


@given(nano_usd=st.integers(1, 10**12))
def test_a_cap_in_usd_means_the_nano_usd_that_it_says(nano_usd: int) -> None:
    """A cap written with nine decimals is kept to the last one, however floats round."""
    free = catalog(scripted("small", times=10**6))
    cap = float(f"{nano_usd}e-9")
    assert only(free, max_cost_usd=cap).worst_case_nano_usd == min(WORST * 10**6, nano_usd)


def test_the_first_reason_is_the_one_that_no_limit_can_change() -> None:
    """An arm that cannot serve the request at all is neither too long nor too dear."""
    steps = catalog(scripted("small", context_tokens=10), strategies=("cot",))
    offer = only(steps, n=2, max_cost_usd=1e-9)
    assert offer.rejected is not None
    assert "several" in offer.rejected
    assert not offer.too_long
    assert not offer.too_dear


def test_a_named_model_is_served_plain() -> None:
    """Existing clients that name a model get that model as it is, also without ``direct``."""
    assert only(SEVERAL, model="large").arm == Arm("large", "direct")
    no_direct = catalog(scripted("small"), strategies=("cot", VOTE))
    assert only(no_direct, model="small").arm == Arm("small", "cot")


@pytest.mark.parametrize("text", [VOTE, "self_consistency"])
def test_a_strategy_is_named_by_its_text_or_its_bare_name(text: str) -> None:
    """Both name the configured strategy."""
    offered = offers(SEVERAL, asks(strategy=text, answer_kind=AnswerKind.NUMBER))
    assert [str(offer.arm) for offer in offered] == [f"small|{VOTE}", f"large|{VOTE}"]


def test_a_bare_name_means_the_first_of_its_strategies() -> None:
    """Where two differ by parameters alone, each can still be named by its text."""
    two = catalog(
        scripted("small"), strategies=("self_consistency(samples=3)", "self_consistency(samples=9)")
    )
    asked = {"model": "small", "answer_kind": AnswerKind.NUMBER}
    assert "samples=3" in only(two, strategy="self_consistency", **asked).arm.strategy
    assert "samples=9" in only(two, strategy="self_consistency(samples=9)", **asked).arm.strategy


def test_allowed_models_are_considered_and_no_others() -> None:
    """In the order in which the request lists them."""
    offered = offers(SEVERAL, asks(allowed_models=("large",)))
    assert {offer.arm.model for offer in offered} == {"large"}
    offered = offers(SEVERAL, asks(allowed_models=("large", "small"), strategy="direct"))
    assert [offer.arm.model for offer in offered] == ["large", "small"]


def test_a_model_that_is_allowed_twice_is_offered_once() -> None:
    """Two offers of one arm would be drawn twice as often and credited to one."""
    offered = offers(SEVERAL, asks(allowed_models=("large", "large"), strategy="direct"))
    assert [str(offer.arm) for offer in offered] == ["large|direct"]


def test_a_named_model_has_to_be_an_allowed_one() -> None:
    """A request that contradicts itself is refused, not served by the model it rules out."""
    with pytest.raises(RequestError, match="allowed_models") as caught:
        offers(SEVERAL, asks(model="small", allowed_models=("large",)))
    assert caught.value.param == "compute.allowed_models"
    assert only(SEVERAL, model="small", allowed_models=("small", "large")).arm.model == "small"


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        pytest.param({"model": "gpt-9"}, "model", "model_not_found", id="a model"),
        pytest.param(
            {"allowed_models": ("small", "gpt-9")},
            "compute.allowed_models",
            "model_not_found",
            id="an allowed model",
        ),
        pytest.param(
            {"strategy": "self_consistency(samples=7)"},
            "compute.strategy",
            "strategy_not_found",
            id="a strategy with other parameters",
        ),
        pytest.param(
            {"strategy": "guess"}, "compute.strategy", "strategy_not_found", id="a strategy"
        ),
    ],
)
def test_what_is_not_configured_is_refused_by_name(
    asked: dict[str, Any], param: str, code: str
) -> None:
    """The error names the field and lists what there is."""
    with pytest.raises(RequestError, match=r"use one of: .*(small|direct)") as caught:
        offers(SEVERAL, asks(**asked))
    assert (caught.value.param, caught.value.code) == (param, code)


def test_the_bound_covers_text_of_many_bytes() -> None:
    """Prompts are bounded by bytes, of which a sign can have four."""
    offer = only(catalog(scripted("small")), text="\N{GRINNING FACE}" * 3)
    assert offer.prompt_tokens == PROMPT_BOUND - len(TEXT) + 12
    assert offer.prompt_tokens == offer.model.provider.count_prompt_tokens(
        [Message("user", "\N{GRINNING FACE}" * 3)]
    )
