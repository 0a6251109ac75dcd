"""A client for process reward models behind HTTP: step qualities for one worked answer.

Two forms of request are spoken. ``vllm`` is the pooling interface of vLLM's server, ``POST
/pooling`` with the conversation, the steps separated by the model's own mark; the reply has one
row per mark. ``plain`` is our own for any other server: ``{"question", "steps"}`` to the URL as it
is, ``{"scores": [...]}`` back, one number in [0, 1] a step.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cost_models.estimates import NS_PER_S
from cost_models.types import Usage
from router.errors import ProviderError, ProviderTimeoutError
from router.providers.base import utf8_length
from router.providers.usage import BYTES_PER_TOKEN_ESTIMATE, normalised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.providers.base import Tally

MAX_REPLY_BYTES = 8 << 20
HTTP_OK = 200
VLLM = "vllm"
PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class RewardModel:
    """A reward model at ``url``; ``mark`` is what it reads the quality of a step at.

    ``api_key`` is sent as a bearer token; empty sends none. Of an ``owned`` server the time is
    counted.
    """

    url: str
    model: str
    form: str
    mark: str
    timeout_s: float
    api_key: str = ""
    owned: bool = False

    async def score(self, question: str, steps: Sequence[str], tally: Tally) -> tuple[float, ...]:
        """Give one quality in [0, 1] for each step, and say in ``tally`` what it used.

        Raises ProviderError when the server cannot be reached, refuses, or answers with another
        number of scores than there are steps; ProviderTimeoutError after ``timeout_s`` seconds.
        Nothing is used where there is no connection or the server refuses. Prompt tokens that it
        does not report are estimated; machine time is the time until its answer.
        """
        import aiohttp  # noqa: PLC0415 - only a process that asks a reward model loads it here

        body = self._body(question, steps)
        url = self.url if self.form == PLAIN else f"{self.url.rstrip('/')}/pooling"
        began_ns = time.monotonic_ns()
        limit = aiohttp.ClientTimeout(total=self.timeout_s)
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.post(url, json=body, headers=headers) as response,
            ):
                raw = await response.content.read(MAX_REPLY_BYTES)
                status = response.status
        except TimeoutError as error:
            msg = f"the reward model did not answer in {self.timeout_s:g} s"
            raise ProviderTimeoutError(self.model, msg) from error
        except aiohttp.ClientError as error:
            if isinstance(error, aiohttp.ClientConnectorError):
                tally.settle(Usage())
            msg = f"the reward model cannot be reached: {type(error).__name__}"
            raise ProviderError(self.model, msg) from error
        if status != HTTP_OK:
            tally.settle(Usage())
            msg = f"the reward model answered with status {status}"
            raise ProviderError(self.model, msg, status=status)
        used_ns = min(time.monotonic_ns() - began_ns, int(self.timeout_s * NS_PER_S))
        reply = _read(raw)
        tally.settle(self._used(reply, question, steps, used_ns))
        return self._scores(reply, raw, len(steps))

    def _used(
        self,
        reply: Any,  # noqa: ANN401 - JSON
        question: str,
        steps: Sequence[str],
        machine_ns: int,
    ) -> Usage:
        reported = normalised(reply.get("usage")) if isinstance(reply, dict) else None
        if reported is None:
            n_bytes = sum(utf8_length(text) for text in (question, *steps, self.mark * len(steps)))
            tokens = math.ceil(n_bytes / BYTES_PER_TOKEN_ESTIMATE)
            reported = Usage(n_calls=1, prompt_tokens=tokens, estimated=True)
        return replace(reported, machine_ns=machine_ns if self.owned else 0)

    def _body(self, question: str, steps: Sequence[str]) -> dict[str, Any]:
        if self.form == PLAIN:
            return {"model": self.model, "question": question, "steps": list(steps)}
        clean = (step.replace(self.mark, " ") for step in steps)
        worked = "".join(f"{step}{self.mark}" for step in clean)
        messages = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": worked},
        ]
        return {"model": self.model, "messages": messages}

    def _scores(self, reply: Any, raw: bytes, n_steps: int) -> tuple[float, ...]:  # noqa: ANN401 - JSON
        try:
            rows = reply["scores"] if self.form == PLAIN else reply["data"][0]["data"]
            scores = tuple(_score(row) for row in rows)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            msg = f"the reward model's reply has no scores: {raw[:120]!r}"
            raise ProviderError(self.model, msg) from error
        if len(scores) != n_steps:
            msg = f"the reward model scored {len(scores)} steps of {n_steps}; check form and mark"
            raise ProviderError(self.model, msg)
        return scores


def _read(raw: bytes) -> Any:  # noqa: ANN401 - JSON
    """Read a reply; None where it is no JSON."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _score(row: object) -> float:
    """Read one row: a number, or the shares of bad and good, of which the last counts.

    A number outside [0, 1] is a logit, as some models give it.
    """
    if isinstance(row, list):
        row = row[-1]
    if not isinstance(row, int | float) or isinstance(row, bool) or not math.isfinite(row):
        msg = f"{row!r} is no score"
        raise ValueError(msg)
    if 0.0 <= row <= 1.0:
        return float(row)
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, row))))
