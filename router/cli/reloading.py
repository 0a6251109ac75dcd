"""A changed configuration taken over while the gateway serves; a bad one changes nothing.

The new service is built and started beside the old one, on the same ledger; then requests go to the
new one, and the old one is closed when its last request has ended.
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cost_models.errors import RheostatError
from router.cli.build import gateway_settings, make_service, start_service
from router.errors import ConfigError
from router.gateway.config import load

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

    from router.cli.build import Gateway
    from router.gateway.config import Config
    from router.routing.service import RoutingService

WATCH_S = 2.0
"""Seconds between two looks at the file; one that changed is read when it is at rest."""

Signature = tuple[int, int, int] | None


@dataclass(slots=True, eq=False)
class Reloader:
    """Takes over the configuration in ``path``; ``tell`` is told what came of it."""

    path: Path
    config: Config
    gateway: Gateway
    tell: Callable[[str], object]
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _listens: bool = field(default=False, init=False)
    _tasks: set[asyncio.Task[object]] = field(default_factory=set, init=False)

    def begin(self, *, watch_s: float | None = WATCH_S) -> None:
        """Reload at SIGHUP and, with ``watch_s``, when the file has changed."""
        loop = asyncio.get_running_loop()
        self._listens = True
        loop.add_signal_handler(signal.SIGHUP, lambda: self._keep(self.reload()))
        if watch_s is not None:
            self._keep(self._watch(watch_s), "watch")

    async def aclose(self) -> None:
        """Stop watching; what is being closed is closed."""
        if self._listens:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        for task in self._tasks:
            if task.get_name() == "watch":
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def reload(self) -> bool:
        """Take over what the file says now; False, and all as before, where it cannot be."""
        async with self._turn:
            try:
                config, service = await self._made()
            except RheostatError as error:
                self.tell(f"the configuration is kept as it was: {error}")
                self.gateway.app.state.metrics.count_reload(ok=False)
                return False
            before = self.gateway.engine.service
            self.config = config
            self.gateway.answers.keep_s = config.idempotency_ttl_s
            self.gateway.app.state.settings = gateway_settings(config, service.ledger)
            self._keep(self._retire(before, service, self.gateway.engine.switch(service)))
            self.tell(f"the configuration {self.path} is in force")
            self.gateway.app.state.metrics.count_reload(ok=True)
            return True

    async def _made(self) -> tuple[Config, RoutingService]:
        """Build and start what the file says; nothing is left of it where that fails."""
        config = await asyncio.to_thread(load, self.path)
        _check_reloadable(self.config, config)
        ledger = self.gateway.engine.service.ledger
        service = make_service(config, ledger)
        try:
            await start_service(service)
            budgets = [budget.to_budget() for budget in config.budgets]
            await asyncio.to_thread(ledger.declare_budgets, budgets)
        except BaseException:
            await service.retire()
            raise
        return config, service

    async def _retire(
        self, before: RoutingService, service: RoutingService, idle: Awaitable[None]
    ) -> None:
        await idle
        service.take_over(await before.retire())

    async def _watch(self, watch_s: float) -> None:
        """Reload when the file has changed and has been at rest since the last look."""
        seen = taken = _signature(self.path)
        while True:
            await asyncio.sleep(watch_s)
            now = _signature(self.path)
            if now == seen != taken and now is not None:
                taken = now
                await self.reload()
            seen = now

    def _keep(self, work: Coroutine[Any, Any, object], name: str = "reload") -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _check_reloadable(before: Config, after: Config) -> None:
    """Raise ConfigError for what a running gateway cannot change."""
    if after.ledger != before.ledger:
        msg = "another ledger is taken with a restart alone"
        raise ConfigError(msg)
    if before.uses_local_models or after.uses_local_models:
        msg = "embedded models are loaded once; restart to change their configuration"
        raise ConfigError(msg)


def _signature(path: Path) -> Signature:
    """Give what a file is told apart by, None where it is not there; links are followed."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
