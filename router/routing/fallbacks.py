"""Where to go when an arm's upstream failed: the arms that are left, within what is left.

Pure: what failed in, the choices to try out. A request for `auto` goes on with what the policy
picks among the models that did not fail; one for a named model with those that the configuration
names for it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cost_models.money import NANO_PER_USD
from router.routing.candidates import cap_nano_usd
from router.routing.types import is_auto

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cost_models.types import Arm
    from router.routing.catalog import Catalog
    from router.routing.chooser import Choice
    from router.routing.leases import Lease
    from router.routing.types import ChatRequest

FAILED = "its upstream failed in this request"


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that gave no answer; what it used is settled, ``cost_nano_usd`` of it."""

    arm: Arm
    error: str
    cost_nano_usd: int
    lease: Lease

    @property
    def models(self) -> frozenset[str]:
        """The models whose calls failed."""
        failed = frozenset(call.model for call in self.lease.calls if call.status == "error")
        return failed or frozenset({self.arm.model})

    @property
    def in_doubt(self) -> bool:
        """Whether a call may have been answered, and was not moved to another deployment."""
        return any(call.in_doubt for call in self.lease.calls)


def alternatives(
    catalog: Catalog,
    request: ChatRequest,
    failures: Sequence[Failure],
    consider: Callable[[ChatRequest], Choice],
) -> Iterator[tuple[ChatRequest, Callable[[ChatRequest], Choice]]]:
    """Yield what to ask for next, best first, with how to consider it; ``request`` is as asked.

    The request's cost cap is lowered by what its failures cost; nothing is left to try without
    such money.
    """
    left = _with_less(request, sum(failure.cost_nano_usd for failure in failures))
    if left is None:
        return
    out = _used_up(catalog, failures)

    def without_failed(asked: ChatRequest) -> Choice:
        return consider(asked).without(out, FAILED)

    if is_auto(request.model):
        yield left, without_failed
        return
    allowed = request.limits.allowed_models
    for name in (request.model, *catalog.models[request.model].fallbacks):
        if name not in out and (allowed is None or name in allowed):
            yield replace(left, model=name), consider


def _used_up(catalog: Catalog, failures: Sequence[Failure]) -> frozenset[str]:
    """Name the models that are not tried again.

    A model of several deployments has another try for each, where the last one ended in doubt: such
    a call stays where it was made. Any other failure was seen at all deployments already.
    """
    n_failed = Counter(name for failure in failures for name in failure.models)
    again = set()
    if failures[-1].in_doubt:
        for name in failures[-1].models:
            pool = catalog.models[name].pool
            if pool is not None and n_failed[name] < len(pool.deployments):
                again.add(name)
    return frozenset(n_failed) - again


def _with_less(request: ChatRequest, spent_nano_usd: int) -> ChatRequest | None:
    cap = cap_nano_usd(request.limits.max_cost_usd)
    if cap is None or not spent_nano_usd:
        return request
    left = cap - spent_nano_usd
    if left <= 0:
        return None
    return replace(request, limits=replace(request.limits, max_cost_usd=left / NANO_PER_USD))
