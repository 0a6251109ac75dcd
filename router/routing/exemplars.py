"""The verified answers of each tenant's past, near at hand for few-shot prompts.

Read from the ledger now and then, bounded in number and length; looking for the nearest is done in
memory. A tenant is shown its own past alone, and never the very question that it asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from policies.nearest import NearestTexts
from router.strategies.few_shot import NEAREST, FewShot
from router.strategies.registry import parse_strategy
from router.strategies.vote import Vote, source_of
from router.types import Exemplar
from router.verifiers.registry import VERIFIERS
from storage.verified import newest_grade, read_verified

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from policies.types import AnswerKind
    from router.routing.catalog import Catalog
    from router.routing.types import ChatRequest
    from storage.store import Ledger
    from storage.verified import VerifiedAnswer

N_GRADES = 20_000
"""Newest grades that are looked through."""
MOST_OF_A_TENANT = 1_000
"""Exemplars kept of each answer kind of a tenant."""
MAX_BYTES = 2_000
"""Longest question and longest answer that are shown: an example should cost little."""
REFRESH_S = 60.0
"""Seconds between two looks for new grades."""
REREAD_S = 900.0
"""Seconds after which all is read again, so that a text removed from the ledger goes here too."""

WEAK = tuple(name for name, kind in VERIFIERS.items() if kind.demands.weak)
"""Graders whose word makes no answer verified: models that judge themselves."""


@dataclass(frozen=True, slots=True)
class _Shelf:
    """The exemplars of one tenant and kind, newest first, with an index over their questions."""

    exemplars: tuple[Exemplar, ...]
    index: NearestTexts


@dataclass(slots=True)
class Exemplars:
    """What few-shot strategies can show; `follow` may run in another thread than the rest."""

    _shelves: Mapping[tuple[str, AnswerKind], _Shelf] = field(default_factory=dict, init=False)
    _n_shown: int = field(default=0, init=False)
    _newest: int = field(default=-1, init=False)
    _looked_at: datetime | None = field(default=None, init=False)
    _read_at: datetime | None = field(default=None, init=False)

    def follow(self, ledger: Ledger, catalog: Catalog, now: datetime) -> None:
        """Read what was verified since, where a strategy shows it and the last look is old."""
        if not _older(self._looked_at, now, REFRESH_S):
            return
        self._looked_at, self._n_shown = now, n_shown(catalog)
        if not self._n_shown:
            return
        newest = ledger.read(newest_grade)
        if newest == self._newest and not _older(self._read_at, now, REREAD_S):
            return
        found = ledger.read(lambda session: read_verified(session, N_GRADES, WEAK))
        self._shelves, self._newest, self._read_at = _shelved(found), newest, now

    def shown(self, request: ChatRequest) -> ChatRequest:
        """Give the request with as many of its tenant's nearest exemplars as a strategy shows."""
        task = request.task
        shelf = self._shelves.get((request.tenant, task.answer_kind))
        if shelf is None:
            return request
        asked = _plain(task.text)
        near = (shelf.exemplars[i] for i in shelf.index.nearest(task.text))
        others = (exemplar for exemplar in near if _plain(exemplar.question) != asked)
        kept = tuple(islice(others, self._n_shown))
        return replace(request, task=replace(task, exemplars=kept))


def n_shown(catalog: Catalog) -> int:
    """Most exemplars of the ledger that one strategy of the catalog shows; 0 where none does."""
    staged = (stage for cascade in catalog.cascades.values() for stage in cascade.stages)
    strategies = [*catalog.strategies.values(), *(parse_strategy(s.strategy) for s in staged)]
    asking = (source_of(s.of) if isinstance(s, Vote) else s for s in strategies)
    shows = (s for s in asking if isinstance(s, FewShot) and s.exemplars == NEAREST)
    return max((strategy.n_exemplars for strategy in shows), default=0)


def _shelved(found: Iterable[VerifiedAnswer]) -> dict[tuple[str, AnswerKind], _Shelf]:
    """Sort by tenant and kind; of a question that was asked often the newest answer is kept."""
    kept: dict[tuple[str, AnswerKind], dict[str, Exemplar]] = {}
    for verified in found:
        texts = (verified.question, verified.answer)
        if any(len(text.encode(errors="surrogatepass")) > MAX_BYTES for text in texts):
            continue
        of_one = kept.setdefault((verified.tenant, verified.kind), {})
        if len(of_one) < MOST_OF_A_TENANT:
            exemplar = Exemplar(verified.kind, verified.question, "", verified.answer)
            of_one.setdefault(_plain(verified.question), exemplar)
    return {
        key: _Shelf(
            tuple(of_one.values()), NearestTexts([known.question for known in of_one.values()])
        )
        for key, of_one in kept.items()
    }


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _older(then: datetime | None, now: datetime, seconds: float) -> bool:
    return then is None or (now - then).total_seconds() >= seconds
