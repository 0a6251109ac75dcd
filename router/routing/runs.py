"""One attempt at a request while it runs, and how what came of it is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cost_models.errors import RheostatError
from router.routing.scopes import scopes_of
from router.strategies.direct import Direct
from router.types import Chunk, Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from policies.types import Decision
    from router.routing.candidates import Offer
    from router.routing.fallbacks import Failure
    from router.routing.leases import Lease
    from router.routing.types import ChatRequest, Served
    from router.types import Answer, Task
    from storage.ledger import Asked

CLIENT_LEFT = "the client left"


@dataclass(slots=True)
class Run:
    """One attempt at a request between its hold and its settlement.

    ``asked`` and ``whole`` are the request as it came, for the ledger and for the engine, and
    ``asked_s`` when; ``failures`` are the attempts before this one.
    """

    asked: Asked
    whole: ChatRequest
    request: ChatRequest
    entry_id: int
    offer: Offer
    decision: Decision
    lease: Lease
    asked_s: float
    started_s: float
    failures: tuple[Failure, ...] = ()

    @property
    def used_tokens(self) -> int:
        """Tokens of all calls of this attempt and of those before."""
        leases = [*(failure.lease for failure in self.failures), self.lease]
        usages = [lease.usage for lease in leases]
        return sum(usage.prompt_tokens + usage.completion_tokens for usage in usages)

    @property
    def streams(self) -> bool:
        """Whether its answer comes piece by piece, as the upstream gives it."""
        offer = self.offer
        is_plain = not offer.stages and isinstance(offer.strategy, Direct)
        return is_plain and self.request.task.n == 1

    @property
    def task(self) -> Task:
        """The task, with what was predicted of it."""
        return replace(self.request.task, difficulty=self.decision.difficulty)


@dataclass(slots=True)
class Said:
    """What a stream said so far.

    Pieces are held back until one says something: until then another arm can take its place.
    ``calls`` tells that it called a tool.
    """

    begun: bool = False
    calls: bool = False
    finish_reason: str = "stop"
    _early: list[Chunk] = field(default_factory=list)
    _texts: list[str] = field(default_factory=list)
    _refusals: list[str] = field(default_factory=list)

    @property
    def sample(self) -> Sample:
        """The completion."""
        refusal = "".join(self._refusals) or None
        return Sample("".join(self._texts), self.finish_reason, refusal=refusal)

    def hear(self, chunk: Chunk) -> Sequence[Chunk]:
        """Take a piece; give those that can be passed on."""
        delta = chunk.delta
        if text := delta.get("content"):
            self._texts.append(str(text))
        if refusal := delta.get("refusal"):
            self._refusals.append(str(refusal))
        self.calls = self.calls or bool(delta.get("tool_calls"))
        self.finish_reason = chunk.finish_reason or self.finish_reason
        if self.begun:
            return (chunk,)
        self._early.append(chunk)
        if not chunk.says_something:
            return ()
        self.begun = True
        return self._early


def after(decision: Decision, failures: Sequence[Failure]) -> Decision:
    """Give a decision its number among the attempts at a request, and say why it was needed."""
    reason = f"{decision.reason}; {failures[-1].arm} failed before"
    return replace(decision, attempt=len(failures), reason=reason)


def with_failures(served: Served, failures: tuple[Failure, ...]) -> Served:
    """Add what the attempts before used, cost and took."""
    leases = [failure.lease for failure in failures]
    return replace(
        served,
        usage=sum((lease.usage for lease in leases), start=served.usage),
        cost_nano_usd=served.cost_nano_usd + sum(each.cost_nano_usd for each in failures),
        overhead_s=max(0.0, served.overhead_s - sum(lease.upstream_s for lease in leases)),
        calls=(*(call for lease in leases for call in lease.calls), *served.calls),
        failures=failures,
    )


def scopes_for(request: ChatRequest) -> tuple[str, ...]:
    """Name the scopes whose budgets a request has to fit."""
    return scopes_of(
        request.tenant,
        request.user,
        team=request.team,
        tags=request.tags,
        session=request.session,
    )


def whole_chunks(answer: Answer) -> tuple[Chunk, ...]:
    """Give a finished answer as the chunks of a stream."""
    (shown,) = answer.choices[:1] or (Sample(answer.text),)
    said: dict[str, Any] = {"content": answer.text}
    if shown.refusal:
        said = {"refusal": shown.refusal}
    elif shown.tool_calls:
        said = {"tool_calls": list(shown.tool_calls)}
        said |= {"content": answer.text} if answer.text else {}
    if shown.reasoning:
        said["reasoning_content"] = shown.reasoning
    return (
        Chunk({"role": "assistant", "content": ""}),
        Chunk(said, logprobs=shown.logprobs),
        Chunk({}, finish_reason=answer.finish_reason),
    )


def told(error: BaseException | None) -> str | None:
    """Say why there is no answer: our own words, or only the kind of a foreign error."""
    if error is None:
        return None
    if isinstance(error, RheostatError):
        return str(error)
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return CLIENT_LEFT
    return type(error).__name__
