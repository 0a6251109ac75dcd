"""The ways that a request can go, each with what it costs: the rows of `test_costs`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from faults.gateways import COST, USAGE, worst
from upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CASCADE = "confident_0.8(small/direct > large/direct)"
CHAT, MESSAGES, RESPONSES = "chat/completions", "messages", "responses"
TEXT, MAX_TOKENS = "say something", 20
SAID = "one two three four"
N_EVENTS = len(SAID.split()) + 3
"""Words of `SAID`, its finish, its usage, and the end."""

WORST = worst(TEXT, MAX_TOKENS)
ESTIMATE = -(-(WORST // 1_000 - 2 * MAX_TOKENS) // 3) * 1_000 + -(-len(SAID) // 3) * 2_000
"""What `SAID` is charged where its usage is not known: a token for three bytes."""

WHOLE = Upstream.Served((SAID,), usage=USAGE)
BUSY = Upstream.error(503, "overloaded", **{"retry-after": "0"})
LIMITED = Upstream.error(429, "slow down", **{"retry-after": "0"})
BROKEN = Upstream.error(500, "broken")


@dataclass(frozen=True, slots=True)
class Case:
    """A request, what the upstream does, what the client does, and what it costs in nano-USD.

    ``costs`` are those of its calls in the ledger, of attempts that were turned away last.
    ``failed`` are the costs of the calls of each arm that failed before, in entries of their own. A
    client leaves after ``leaves_after`` words, at 0 when the upstream was asked. ``status`` None is
    for an answer that never comes.
    """

    replies: tuple[Upstream.Served, ...]
    costs: tuple[int, ...]
    failed: tuple[tuple[int, ...], ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = False
    path: str = CHAT
    leaves_after: int | None = None
    status: int | None = 200
    in_doubt: bool = False
    overshoot: int = 0

    def body(self) -> dict[str, Any]:
        """Give the request in the dialect of its path."""
        said = [{"role": "user", "content": TEXT}]
        question: dict[str, Any] = {"messages": said, "max_tokens": MAX_TOKENS}
        if self.path == RESPONSES:
            question = {"input": TEXT, "max_output_tokens": MAX_TOKENS}
        return {"model": "small", "stream": self.stream, **question, **self.fields}


def whole(*, stream: bool, **fields: object) -> Iterator[Any]:
    """Give what does not differ between a stream and a plain answer."""
    how = "streamed" if stream else "plain"
    for path in (CHAT, MESSAGES, RESPONSES):
        yield pytest.param(
            Case((WHOLE,), (COST,), stream=stream, path=path, **fields),  # type: ignore[arg-type] - by name
            id=f"{path} {how}",
        )
    yield pytest.param(
        Case((BUSY, LIMITED, WHOLE), (COST, 0, 0), stream=stream),
        id=f"turned away twice then answered {how}",
    )
    yield pytest.param(
        Case((BUSY,) * 3, (0, 0, 0), stream=stream, status=502), id=f"busy all along {how}"
    )
    yield pytest.param(Case((BROKEN,), (0,), stream=stream, status=502), id=f"broken {how}")
    silent = Upstream.Served((SAID,), usage=False)
    yield pytest.param(Case((silent,), (ESTIMATE,), stream=stream), id=f"no usage reported {how}")
    greedy = {**USAGE, "completion_tokens": 1_000, "total_tokens": 1_002}
    cost = 2 * 1_000 + 1_000 * 2_000
    yield pytest.param(
        Case(
            (Upstream.Served((SAID,), usage=greedy),),
            (cost,),
            stream=stream,
            overshoot=cost - WORST,
        ),
        id=f"billed above its cap {how}",
    )
    left = Upstream.Served((SAID,), usage=USAGE, delay_s=600)
    yield pytest.param(
        Case((left,), (WORST,), stream=stream, leaves_after=0, status=None, in_doubt=True),
        id=f"client gone before the first byte {how}",
    )
    cascade = {"model": "auto", "compute": {"strategy": CASCADE}}
    yield pytest.param(
        Case((WHOLE, WHOLE), (COST, 20 * COST), fields=cascade, stream=stream),
        id=f"cascade {how}",
    )
    yield pytest.param(
        Case((BROKEN, WHOLE), (0, 20 * COST), fields=cascade, stream=stream),
        id=f"cascade whose first stage fails {how}",
    )
    yield pytest.param(
        Case(
            (WHOLE, left),
            (COST, 20 * WORST),
            fields=cascade,
            stream=stream,
            leaves_after=0,
            status=None,
            in_doubt=True,
        ),
        id=f"client gone in the second stage {how}",
    )
    yield from elsewhere(stream=stream)


def elsewhere(*, stream: bool) -> Iterator[Any]:
    """Give what is answered by another deployment, or by another arm after the first failed."""
    how = "streamed" if stream else "plain"
    spread, loyal = {"model": "spread"}, {"model": "loyal"}
    lost = Upstream.Served(cut_after=0)
    left = Upstream.Served((SAID,), usage=USAGE, delay_s=600)
    yield pytest.param(
        Case((BROKEN, WHOLE), (COST, 0), fields=spread, stream=stream),
        id=f"another deployment after an error {how}",
    )
    yield pytest.param(
        Case((lost, WHOLE), (COST,), ((WORST,),), spread, stream),
        id=f"another deployment after a call that was lost {how}",
    )
    yield pytest.param(
        Case((BROKEN, WHOLE), (20 * COST,), ((0,),), loyal, stream),
        id=f"fallback after an error {how}",
    )
    yield pytest.param(
        Case((BUSY, BUSY, LIMITED, WHOLE), (20 * COST,), ((0, 0, 0),), loyal, stream),
        id=f"fallback after it was turned away {how}",
    )
    yield pytest.param(
        Case((lost, WHOLE), (20 * COST,), ((WORST,),), loyal, stream),
        id=f"fallback after a call that was lost {how}",
    )
    yield pytest.param(
        Case((BROKEN, BROKEN), (0,), ((0,),), loyal, stream, status=502),
        id=f"fallback that fails too {how}",
    )
    yield pytest.param(
        Case(
            (BROKEN, left),
            (20 * WORST,),
            ((0,),),
            loyal,
            stream,
            leaves_after=0,
            status=None,
            in_doubt=True,
        ),
        id=f"client gone in the fallback {how}",
    )


def cut(*, by_client: bool) -> Iterator[Any]:
    """Give a stream that ends early at every event: the usage is the first that says its cost.

    The first event says nothing, and is held back: a client gone then had no byte.
    """
    for i in range(N_EVENTS):
        known = i == N_EVENTS - 1
        if by_client and (known or not i):
            continue
        how = {"stall_after": i} if by_client else {"cut_after": i}
        yield pytest.param(
            Case(
                (Upstream.Served((SAID,), usage=USAGE, **how),),
                (COST if known else WORST,),
                stream=True,
                leaves_after=min(i, len(SAID.split())) if by_client else None,
                in_doubt=not known,
            ),
            id=f"{'client gone' if by_client else 'upstream cut'} after {i} of {N_EVENTS} events",
        )


CASES = [
    *whole(stream=False),
    *whole(stream=True),
    *cut(by_client=True),
    *cut(by_client=False),
    pytest.param(
        Case((Upstream.Served(cut_after=0),), (WORST,), status=502, in_doubt=True),
        id="upstream cut before its answer",
    ),
    pytest.param(
        Case((WHOLE,), (COST,), fields={"n": 3}),
        id="three choices of one call cost what is reported",
    ),
]
