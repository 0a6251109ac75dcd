"""Errors of running: strategies, providers, caps, configuration.

::

    RheostatError
    |-- StrategyConfigError       a strategy's parameters are wrong; at start, not at a request
    |-- ConfigError               the config file is wrong; names the key and the nearest valid one
    |-- RequestError              the client's request cannot be served as written
    |-- ProviderError             the upstream failed
    |   |-- ProviderTimeoutError  the upstream did not answer in time
    |   `-- OverloadedError       the local queue is full; retry later
    |-- AllowanceExceededError    the meter stopped a call that did not fit its caps
    |-- WebhookError              the address for alerts did not take one
    `-- WeightsError              embedded weights are missing or damaged
"""

from __future__ import annotations

from cost_models.errors import RheostatError


class StrategyConfigError(RheostatError):
    """A strategy's name or parameters are wrong."""


class ConfigError(RheostatError):
    """The configuration is wrong; the message names the place and what to write instead."""


class RequestError(RheostatError):
    """The request cannot be served as written; ``param`` names the offending field, if any."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str = "invalid_request"
    ) -> None:
        self.param = param
        self.code = code
        super().__init__(message)


class WebhookError(RheostatError):
    """The address for alerts did not take an event in ``attempts`` attempts."""

    def __init__(self, problem: str, *, attempts: int) -> None:
        self.attempts = attempts
        tried = "one attempt" if attempts == 1 else f"{attempts} attempts"
        super().__init__(f"the webhook of `alerts` failed after {tried}: {problem}")


class ProviderError(RheostatError):
    """An upstream model failed. ``status`` is its HTTP status, or None when it never answered."""

    def __init__(
        self,
        model: str,
        message: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.model = model
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(f"model {model!r}: {message}")


class ProviderTimeoutError(ProviderError):
    """An upstream model did not answer in time.

    ``phase`` is what was waited for, as in `router.providers.timeouts.Phase`; None when it was the
    request's own time that was over.
    """

    def __init__(
        self,
        model: str,
        message: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        phase: str | None = None,
    ) -> None:
        self.phase = phase
        super().__init__(model, message, status=status, retry_after_s=retry_after_s)


class UpstreamUnavailableError(ProviderError):
    """No deployment of a model takes calls now; nothing was sent. Try after ``retry_after_s``."""


class OverloadedError(ProviderError):
    """The queue in front of a local model is full; try again after ``retry_after_s``."""


class AllowanceExceededError(RheostatError):
    """A call was not made because it did not fit the caps; what was found so far is kept."""


class WeightsError(RheostatError):
    """Embedded weights are missing, damaged, or cannot be fetched."""
