"""What an operator sets for a service."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """``request_timeout_s`` bounds a request's upstream work from its hold on.

    Its calls that failed and cost nothing are tried again up to ``max_retries`` times in all, and
    when its arm fails, others serve it, up to ``max_fallbacks`` of them. One that would fit if what
    is in flight cost nothing more waits up to ``budget_wait_s``.

    The text of a query is kept for learning unless ``keep_query_text`` is False; the whole
    conversation only with ``store_prompts``. A replica says every ``heartbeat_s`` that it is
    alive; one that was silent for ``stale_after_s`` is dead.
    """

    request_timeout_s: float = 300.0
    budget_wait_s: float = 30.0
    max_retries: int = 2
    max_fallbacks: int = 2
    keep_query_text: bool = True
    store_prompts: bool = False
    heartbeat_s: float = 10.0
    stale_after_s: float = 60.0
