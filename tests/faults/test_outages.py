"""A database that goes away, takes no writes, or is full: a clear error, and nothing by halves."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from faults.gateways import CONFIG, COST, LONG, USAGE, start, until
from faults.proxy import Wire
from sqlalchemy import event, func, make_url, select

from cost_models.budgets import Budget, Period
from cost_models.types import Arm
from policies.types import Decision, Query
from storage.engine import create_ledger_engine, migrate
from storage.errors import LedgerUnavailableError
from storage.keys import create_key
from storage.ledger import Asked, OpenEntry, SettleEntry
from storage.models import CallRow, EntryRow, EntryStatus, RequestRow
from storage.store import Ledger

if TYPE_CHECKING:
    from upstream import Upstream

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
PEPPER = "a pepper of some length"
DOWN_S = 30 if LONG else 3
N_CLIENTS = 10
MOST_GROWN_MB = 8.0
"""Room for what the first errors load; at some hundred refusals a second a leak would pass it."""


@dataclass
class Load:
    """Clients that ask on and on, and what they were answered in each phase."""

    url: str
    key: str
    phase: str = "before"
    answers: dict[str, Counter[int]] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    n_without_retry_after: int = 0

    async def ask_on(self) -> None:
        """Ask until the phase is over."""
        headers = {"authorization": f"Bearer {self.key}"}
        body = {"model": "small", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
        async with httpx.AsyncClient(
            base_url=self.url, headers=headers, trust_env=False, timeout=100
        ) as client:
            while self.phase != "over":
                phase = self.phase
                response = await client.post("/v1/chat/completions", json=body)
                if phase == self.phase:
                    self.answers.setdefault(phase, Counter())[response.status_code] += 1
                if response.status_code == 200:
                    self.whole.add(response.json()["id"])
                elif "retry-after" not in response.headers:
                    self.n_without_retry_after += 1
                await asyncio.sleep(0.02)

    async def answered(self, phase: str) -> None:
        """Wait a second and a half, and until a phase has as many answers as there are clients."""
        await asyncio.sleep(1.5)
        await until(lambda: sum(self.answers.get(phase, Counter()).values()) >= N_CLIENTS, phase)


def memory_mb(pid: int) -> float:
    """Give the resident memory of a process, 0 where the system does not tell."""
    statm = Path(f"/proc/{pid}/statm")
    pages = int(statm.read_text().split()[1]) if statm.exists() else 0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def through_an_outage(load: Load, wire: Wire, pid: int) -> float:
    """Ask before, while and after the database is away; the phases leave out each change.

    Give the MB by which the process grew while it was away.
    """
    clients = [asyncio.create_task(load.ask_on()) for _ in range(N_CLIENTS)]
    await load.answered("before")
    await wire.cut()
    load.phase = "settling down"
    await asyncio.sleep(0.5)
    load.phase = "away"
    before_mb = memory_mb(pid)
    await asyncio.sleep(DOWN_S)
    await load.answered("away")
    grown_mb = memory_mb(pid) - before_mb
    load.phase = "coming back"
    await wire.join()
    await asyncio.sleep(1.5)
    load.phase = "back"
    await load.answered("back")
    load.phase = "over"
    await asyncio.gather(*clients)
    return grown_mb


@pytest.mark.anyio
@pytest.mark.postgres
@pytest.mark.timeout(300)
@pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)
async def test_while_the_database_is_away_the_answer_is_503_and_nothing_is_free(
    empty_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    """Never 401; every upstream call is in the ledger afterwards; no restart is needed."""
    upstream.default = upstream.Served(usage=USAGE, delay_s=0.05)
    ledger = Ledger(create_ledger_engine(empty_url))
    migrate(ledger.engine)
    key = ledger.write(lambda s: create_key(s, "acme", PEPPER, datetime.now(UTC)))
    url = make_url(empty_url)
    folder = str(url.query["host"])
    wire = Wire(f"{folder}/.s.PGSQL.{url.port or url.query.get('port', 5432)}")
    async with wire.running():
        through = url.set(query={}, host="127.0.0.1", port=wire.port)
        config = tmp_path / "rheostat.yaml"
        text_ = CONFIG.format(
            ledger=through.render_as_string(hide_password=False),
            upstream=upstream.base_url,
            limit_usd=1000,
        )
        config.write_text(f"{text_}auth: {{mode: keys, pepper: {PEPPER!r}}}\n")
        gateway = await asyncio.to_thread(start, config)
        try:
            load = Load(gateway.base_url, key)
            grown_mb = await through_an_outage(load, wire, gateway.process.pid)
            end = time.monotonic() + 40
            while n_open(ledger):
                assert time.monotonic() < end, f"{n_open(ledger)} entries stay open"
                await asyncio.sleep(0.2)
        finally:
            gateway.kill()
    assert grown_mb < MOST_GROWN_MB
    assert load.answers["before"].keys() == {200}
    assert load.answers["away"].keys() == {503}
    assert load.answers["back"].keys() == {200}
    assert load.n_without_retry_after == 0
    everything = sum(load.answers.values(), Counter())
    assert everything.keys() == {200, 503}
    entries = ledger.read(lambda s: s.execute(select(EntryRow.__table__)).all())
    settled = {entry.request_id: entry.cost_nano_usd for entry in entries}
    assert {settled[request_id] for request_id in load.whole} == {COST}
    assert ledger.read(lambda s: s.scalar(select(func.count(CallRow.id)))) == len(upstream.requests)
    (status,) = ledger.budget_status(datetime.now(UTC))
    assert status.facts.spent_nano_usd == COST * len(upstream.requests)
    assert status.facts.held_nano_usd == 0
    assert ledger.examine() == []
    ledger.close()


def n_open(ledger: Ledger) -> int:
    """Count the open entries."""
    is_open = EntryRow.status == EntryStatus.OPEN
    return ledger.read(lambda s: s.scalar(select(func.count(EntryRow.id)).where(is_open)) or 0)


def entry(name: str, prompt: str | None = None) -> OpenEntry:
    """Build an entry that holds 1 nano-USD."""
    decision = Decision(arm=Arm("small", "direct"), propensity=1.0, policy_version="fixed")
    return OpenEntry(Asked(Query(name, "2+2?"), prompt_text=prompt), decision, 1)


def stand(ledger: Ledger) -> tuple[int, int, int]:
    """Give requests, entries, and what is held; the ledger has to be sound."""
    assert ledger.examine() == []
    (status,) = ledger.budget_status(NOW)
    return (
        ledger.read(lambda s: s.scalar(select(func.count(RequestRow.id))) or 0),
        ledger.read(lambda s: s.scalar(select(func.count(EntryRow.id))) or 0),
        status.facts.held_nano_usd,
    )


def test_a_full_disk_is_a_clear_error_and_leaves_no_partial_row(tmp_path: Path) -> None:
    """What was written is whole, what was open is settled once there is room."""
    engine = create_ledger_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    migrate(engine)
    ledger = Ledger(engine)
    ledger.declare_budgets([Budget("organisation", Period.TOTAL, 10**9)])
    first = ledger.open(entry("first"), NOW)
    room = {"pages": 0}

    @event.listens_for(engine, "checkout")
    def be_small(connection: Any, *_: object) -> None:  # noqa: ANN401 - a DBAPI connection
        connection.execute(f"PRAGMA max_page_count={room['pages'] or 2**30}")

    with engine.connect() as connection:
        room["pages"] = connection.exec_driver_sql("PRAGMA page_count").scalar_one() + 8
    n_written = 1

    def fill() -> None:
        nonlocal n_written
        while n_written < 1000:
            ledger.open(entry(f"q{n_written}", "long " * 1000), NOW)
            n_written += 1

    with pytest.raises(LedgerUnavailableError, match="disk is full; make room"):
        fill()
    assert 1 < n_written < 1000
    assert stand(ledger) == (n_written, n_written, n_written)
    room["pages"] = 0
    assert ledger.settle(SettleEntry(first, (), 0.0), NOW).cost_nano_usd == 0
    assert ledger.open(entry("last", "long " * 1000), NOW)
    assert stand(ledger) == (n_written + 1, n_written + 1, n_written)
    ledger.close()


def test_a_database_that_takes_no_writes_is_a_clear_error(empty_url: str) -> None:
    """It can still be read, and works again when it takes writes again."""
    engine = create_ledger_engine(empty_url)
    migrate(engine)
    ledger = Ledger(engine)
    ledger.declare_budgets([Budget("organisation", Period.TOTAL, 100)])
    first = ledger.open(entry("first"), NOW)
    frozen = {"is": True}

    @event.listens_for(engine, "checkout")
    def freeze(connection: Any, *_: object) -> None:  # noqa: ANN401 - a DBAPI connection
        if engine.dialect.name == "sqlite":
            connection.execute(f"PRAGMA query_only={int(frozen['is'])}")
        else:
            connection.read_only = frozen["is"]

    with pytest.raises(LedgerUnavailableError, match=r"read-only|allow writing"):
        ledger.open(entry("second"), NOW)
    with pytest.raises(LedgerUnavailableError):
        ledger.settle(SettleEntry(first, (), 0.0), NOW)
    assert stand(ledger) == (1, 1, 1)
    frozen["is"] = False
    ledger.settle(SettleEntry(first, (), 0.0), NOW)
    assert ledger.open(entry("second"), NOW)
    assert stand(ledger) == (2, 2, 1)
    ledger.close()
