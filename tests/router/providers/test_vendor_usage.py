"""What each vendor reports, in its own form, becomes the same classes of tokens: golden replies.

Replies are in the forms that the vendors document, served over HTTP to the real litellm. A
conversation of 1,200 prompt tokens, 1,000 of them read from a cache and 150 written to one where
the vendor has that, and 80 completion tokens with 30 of reasoning in them where it reports them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from cost_models.types import Usage
from router.providers.base import Tally
from router.providers.litellm_provider import LiteLLMProvider, library
from router.providers.openai_compatible import OpenAICompatibleProvider
from router.types import Message, SampleRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from router.providers.base import Provider

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Item .* on TypedDict class:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # litellm's own
]

Object = dict[str, Any]
ASKS = SampleRequest((Message("user", "how many legs?"),), max_tokens=200)


def openai(usage: Object) -> Object:
    """Reply as OpenAI, and servers like it, do."""
    message = {"role": "assistant", "content": "eight"}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "some-model",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }


ANTHROPIC_USAGE = {
    "input_tokens": 50,
    "cache_creation_input_tokens": 150,
    "cache_read_input_tokens": 1000,
    "output_tokens": 80,
}
ANTHROPIC = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "eight"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": ANTHROPIC_USAGE,
}
GEMINI = {
    "candidates": [
        {
            "content": {"role": "model", "parts": [{"text": "eight"}]},
            "finishReason": "STOP",
            "index": 0,
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 1200,
        "cachedContentTokenCount": 1000,
        "candidatesTokenCount": 50,
        "thoughtsTokenCount": 30,
        "totalTokenCount": 1280,
    },
    "modelVersion": "gemini-2.5-flash",
}
BEDROCK = {
    "output": {"message": {"role": "assistant", "content": [{"text": "eight"}]}},
    "stopReason": "end_turn",
    "usage": {
        "inputTokens": 50,
        "cacheReadInputTokens": 1000,
        "cacheWriteInputTokens": 150,
        "outputTokens": 80,
        "totalTokens": 1280,
    },
    "metrics": {"latencyMs": 1},
}
WHOLE = Usage(1, 1200, 1000, 150, 80)
OPENAI_USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 80,
    "total_tokens": 1280,
    "prompt_tokens_details": {"cached_tokens": 1000, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 30, "accepted_prediction_tokens": 0},
}
VLLM_USAGE = {
    "prompt_tokens": 1200,
    "total_tokens": 1280,
    "completion_tokens": 80,
    "prompt_tokens_details": {"cached_tokens": 1000},
}
AWS = {
    "aws_access_key_id": "nobody",
    "aws_secret_access_key": "nothing",
    "aws_region_name": "us-east-1",
}


@dataclass(frozen=True, slots=True)
class Golden:
    """A vendor's reply, and what is to be counted; ``model`` None is our own client."""

    model: str | None
    reply: Object
    usage: Usage


GOLDEN = [
    pytest.param(
        Golden(None, openai(OPENAI_USAGE), Usage(1, 1200, 1000, 0, 80, 30)),
        id="OpenAI, by our own client",
    ),
    pytest.param(
        Golden("openai/gpt-5", openai(OPENAI_USAGE), Usage(1, 1200, 1000, 0, 80, 30)),
        id="OpenAI, by litellm",
    ),
    pytest.param(Golden(None, openai(VLLM_USAGE), Usage(1, 1200, 1000, 0, 80)), id="vLLM"),
    pytest.param(
        Golden(
            None,
            openai({**VLLM_USAGE, "prompt_tokens_details": None}),
            Usage(1, 1200, completion_tokens=80),
        ),
        id="vLLM without a cache report",
    ),
    pytest.param(Golden("anthropic/claude-sonnet-4-5", ANTHROPIC, WHOLE), id="Anthropic"),
    pytest.param(
        Golden(None, openai(ANTHROPIC_USAGE), WHOLE), id="Anthropic's words behind an OpenAI face"
    ),
    pytest.param(
        Golden("gemini/gemini-2.5-flash", GEMINI, Usage(1, 1200, 1000, 0, 80, 30)), id="Gemini"
    ),
    pytest.param(
        Golden(None, openai(GEMINI["usageMetadata"]), Usage(1, 1200, 1000, 0, 80, 30)),
        id="Gemini's words behind an OpenAI face",
    ),
    pytest.param(
        Golden("bedrock/converse/anthropic.claude-sonnet-4-5-20250929-v1:0", BEDROCK, WHOLE),
        id="Bedrock",
    ),
    pytest.param(
        Golden(None, openai(BEDROCK["usage"]), WHOLE), id="Bedrock's words behind an OpenAI face"
    ),
]


@dataclass
class Vendor:
    """A server that gives one reply under every path."""

    base_url: str = ""
    body: bytes = b""
    kind: str = "application/json"

    async def answer(self, _request: web.Request) -> web.Response:
        """Give the reply."""
        return web.Response(body=self.body, content_type=self.kind)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run all on one event loop: litellm keeps a client of its own, which is closed at the end."""
    return "asyncio"


@pytest.fixture(scope="module")
async def vendor(anyio_backend: str) -> AsyncIterator[Vendor]:
    """Serve on a free port."""
    serving = Vendor()
    app = web.Application()
    app.router.add_post("/{path:.*}", serving.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    serving.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield serving
    await library().module_level_aclient.close()
    await runner.cleanup()


def client(golden_model: str | None, base_url: str) -> Provider:
    """Connect as the model's name says."""
    if golden_model is None:
        return OpenAICompatibleProvider("small", "some-model", f"{base_url}/v1")
    if golden_model.startswith("bedrock/"):
        further = {**AWS, "aws_bedrock_runtime_endpoint": base_url}
        return LiteLLMProvider("small", golden_model, further=further)
    return LiteLLMProvider("small", golden_model, base_url=base_url, api_key="sk-nothing")


@pytest.mark.parametrize("golden", GOLDEN)
async def test_a_vendors_report_is_counted_once_and_whole(vendor: Vendor, golden: Golden) -> None:
    """Cached and reasoning tokens are neither dropped nor counted twice."""
    vendor.body, vendor.kind = json.dumps(golden.reply).encode(), "application/json"
    provider, tally = client(golden.model, vendor.base_url), Tally()
    samples = await provider.sample(ASKS, tally)
    await provider.aclose()
    assert [sample.text for sample in samples] == ["eight"]
    assert tally.final
    assert tally.usage == golden.usage


def events(*objects: Object, named: bool) -> bytes:
    """Write server-sent events, with their type as a name or without."""
    lines = (
        (f"event: {one['type']}\n" if named else "") + f"data: {json.dumps(one)}\n\n"
        for one in objects
    )
    return "".join(lines).encode()


ANTHROPIC_STREAM = events(
    {
        "type": "message_start",
        "message": {**ANTHROPIC, "content": [], "usage": {**ANTHROPIC_USAGE, "output_tokens": 1}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "eight"}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 80},
    },
    {"type": "message_stop"},
    named=True,
)
GEMINI_PIECE = {"content": {"role": "model", "parts": [{"text": "ei"}]}, "index": 0}
GEMINI_STREAM = events(
    {
        "candidates": [GEMINI_PIECE],
        "usageMetadata": {
            "promptTokenCount": 1200,
            "cachedContentTokenCount": 1000,
            "candidatesTokenCount": 2,
            "thoughtsTokenCount": 30,
            "totalTokenCount": 1232,
        },
    },
    {
        **GEMINI,
        "candidates": [
            {
                "content": {"role": "model", "parts": [{"text": "ght"}]},
                "finishReason": "STOP",
                "index": 0,
            }
        ],
    },
    named=False,
)


@pytest.mark.parametrize(
    ("model", "stream", "usage"),
    [
        pytest.param("anthropic/claude-sonnet-4-5", ANTHROPIC_STREAM, WHOLE, id="Anthropic"),
        pytest.param(
            "gemini/gemini-2.5-flash",
            GEMINI_STREAM,
            Usage(1, 1200, 1000, 0, 80, 30),
            id="Gemini, whose counts grow",
        ),
    ],
)
async def test_a_streamed_report_is_the_last_one(
    vendor: Vendor, model: str, stream: bytes, usage: Usage
) -> None:
    """Counts that come in parts are put together, those that grow are not added up."""
    vendor.body, vendor.kind = stream, "text/event-stream"
    provider, tally = client(model, vendor.base_url), Tally()
    chunks = [chunk async for chunk in provider.stream(ASKS, tally)]
    await provider.aclose()
    assert "".join(str(chunk.delta.get("content") or "") for chunk in chunks) == "eight"
    assert tally.final
    assert tally.usage == usage
