"""OpenAI's own Python client, unmodified, against a real gateway with a changed base URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest
from scripted_engine import ScriptedEngine

from cost_models.errors import BudgetExceededError, BudgetFacts
from router.errors import ProviderError, RequestError
from router.gateway.app import create_app
from router.gateway.background import serving
from router.gateway.settings import GatewaySettings
from router.providers.scripted import Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from openai.types.chat import ChatCompletionMessageParam

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "what is 2 + 2 ?"}]
COMPUTE: dict[str, Any] = {"compute": {"accuracy_target": 0.9, "answer_kind": "number"}}


@pytest.fixture
def engine() -> ScriptedEngine:
    """Answer "it is four" to everything."""
    return ScriptedEngine(lambda _request, _i: "it is four")


@pytest.fixture
def address(engine: ScriptedEngine) -> Iterator[str]:
    """Serve ``engine`` to those who have the key."""
    with serving(create_app(engine, GatewaySettings(keys={"acme": "sk-test"}))) as base_url:
        yield f"{base_url}/v1"


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    """Give the plain client; it does not retry, so that each error is seen once."""
    with openai.OpenAI(
        base_url=address,
        api_key="sk-test",
        max_retries=0,
        http_client=httpx.Client(trust_env=False),
    ) as client:
        yield client


@pytest.fixture
async def async_client(address: str, anyio_backend: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """Give the asynchronous client."""
    async with openai.AsyncOpenAI(
        base_url=address,
        api_key="sk-test",
        max_retries=0,
        http_client=httpx.AsyncClient(trust_env=False),
    ) as client:
        yield client


def test_a_plain_completion(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    """The answer, its usage, our extension and the request's id are where clients look."""
    completion = client.chat.completions.create(
        model="auto", messages=MESSAGES, max_tokens=20, extra_body=COMPUTE
    )
    assert completion.choices[0].message.content == "it is four"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 9
    assert completion.model_extra is not None
    assert completion.model_extra["compute"]["arm"] == "small|direct"
    assert completion._request_id == completion.id  # noqa: SLF001 - documented by the SDK
    assert engine.requests[0].limits.accuracy_target == 0.9
    assert engine.requests[0].tenant == "acme"


def test_raw_headers_of_a_completion(client: openai.OpenAI) -> None:
    """The cost is in a header for those who do not look into the body."""
    raw = client.chat.completions.with_raw_response.create(model="small", messages=MESSAGES)
    assert raw.headers["x-rheostat-cost-usd"] == "0.000012000"
    assert raw.parse().model == "small"


def test_a_streamed_completion(client: openai.OpenAI) -> None:
    """The pieces make the answer; the usage comes last, without choices."""
    stream = client.chat.completions.create(
        model="auto",
        messages=MESSAGES,
        stream=True,
        stream_options={"include_usage": True},
        extra_body=COMPUTE,
    )
    chunks = list(stream)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == "it is four"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-2].model_extra is not None
    assert chunks[-2].model_extra["compute"]["cost_usd"] == 0.000012
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3


def test_the_stream_helper_puts_the_answer_together(client: openai.OpenAI) -> None:
    """The SDK's accumulator reads the same stream, tool calls and all."""
    with client.chat.completions.stream(model="auto", messages=MESSAGES) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "it is four"


@pytest.mark.anyio
async def test_a_plain_completion_asynchronously(async_client: openai.AsyncOpenAI) -> None:
    """The asynchronous client reads the same."""
    completion = await async_client.chat.completions.create(
        model="auto", messages=MESSAGES, extra_body=COMPUTE
    )
    assert completion.choices[0].message.content == "it is four"


@pytest.mark.anyio
async def test_a_streamed_completion_asynchronously(async_client: openai.AsyncOpenAI) -> None:
    """And streams the same."""
    stream = await async_client.chat.completions.create(
        model="auto", messages=MESSAGES, stream=True
    )
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(pieces) == "it is four"


def test_models_are_listed_and_retrieved(client: openai.OpenAI) -> None:
    """``auto`` is a model like the others."""
    assert [model.id for model in client.models.list()] == ["auto", "small", "large"]
    assert client.models.retrieve("auto").id == "auto"


def test_a_spent_budget_is_an_error_with_its_figures(
    client: openai.OpenAI, engine: ScriptedEngine
) -> None:
    """402 is not retried; the figures are in the error's body."""
    facts = BudgetFacts("organisation", "total", 5, 5, 0, None)
    engine.refusal = BudgetExceededError(facts, 1)
    with pytest.raises(openai.APIStatusError) as caught:
        client.with_options(max_retries=2).chat.completions.create(model="auto", messages=MESSAGES)
    assert caught.value.status_code == 402
    assert caught.value.code == "budget_exceeded"
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["budget"]["scope"] == "organisation"
    assert len(engine.requests) == 1


def test_errors_are_the_sdks_own(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    """Each status arrives as the exception that OpenAI's users catch."""
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="auto", messages=[])
    assert bad.value.param == "messages"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-other").models.list()
    engine.refusal = RequestError("no such model", param="model", code="model_not_found")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="auto", messages=MESSAGES)
    engine.refusal = ProviderError("small", "cannot connect")
    with pytest.raises(openai.InternalServerError) as upstream:
        client.chat.completions.create(model="auto", messages=MESSAGES)
    assert upstream.value.status_code == 502


def test_an_error_inside_a_stream_is_raised(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    """An upstream that hangs up half-way is not taken for a short answer."""
    engine.provider._ask = lambda _request, _i: Reply(  # noqa: SLF001 - the double's script
        "it is", error=ProviderError("small", "it hung up")
    )
    stream = client.chat.completions.create(model="auto", messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError, match="it hung up"):
        list(stream)
