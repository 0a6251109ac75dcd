"""Rows of simulated requests, as dictionaries for bulk inserts."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.synthetic import PRICE_SOURCE
from policies.synthetic_traffic import JUDGE_TOKENS
from storage.models import EntryStatus

if TYPE_CHECKING:
    from datetime import datetime

    from policies.synthetic import SyntheticArm, World
    from policies.synthetic_traffic import Traffic
    from storage.budgets import KnownBudget

Values = dict[str, Any]
Made = tuple[list[Values], list[Values], list[Values], list[Values], list[Values], list[Values]]

REPLICA = "simulated"
PROVIDER = "simulated"
GRADER = "simulated"
FAILED = "simulated: the upstream failed"
BROKE_OFF = "simulated: the upstream broke off"
REFUSED = "simulated: no arm within the request's own cost limit"
SECONDS_PER_TOKEN = 0.01
GRADED_AFTER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Bank:
    """Questions of known difficulty, easiest first: texts, their kinds, and hashes of the texts."""

    texts: tuple[str, ...]
    kinds: tuple[str, ...]
    difficulties: tuple[float, ...]
    hashes: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        hashes = tuple(hashlib.sha256(text.encode()).hexdigest() for text in self.texts)
        object.__setattr__(self, "hashes", hashes)


class Rows:
    """The rows of one day; ``spent`` sums up what is charged to each budget window."""

    def __init__(  # noqa: PLR0913, PLR0917 - what rows are made of
        self,
        world: World,
        traffic: Traffic,
        bank: Bank,
        budgets: dict[str, KnownBudget],
        midnight: datetime,
        first_id: int,
    ) -> None:
        self.world = world
        self.bank = bank
        self.midnight = midnight
        self.spent: defaultdict[tuple[int, datetime], int] = defaultdict(int)
        self._traffic = traffic
        self._ids = first_id - 1 + np.cumsum(~traffic.refused)
        self._charged = traffic.charged
        self._version = world.policy_version(traffic.day)
        self._rates = world.rates(traffic.day)
        self._windows = [
            [
                (known.budget_id, known.window(midnight).start)
                for known in (budgets.get("organisation"), budgets.get(f"team:{tenant.team}"))
                if known is not None
            ]
            for tenant in world.tenants
        ]

    def make(self, part: range) -> Made:
        """Make requests, refusals, entries, calls, holds and outcomes of some of the requests."""
        made: Made = ([], [], [], [], [], [])
        requests, refusals, entries, calls, holds, outcomes = made
        for i, facts in enumerate(self._plain(part), part.start):
            name = f"sim-{self._traffic.day:04d}-{i:07d}"
            now = self.midnight + timedelta(seconds=facts["time_s"])
            requests.append(self._request(name, now, facts))
            if facts["refused"]:
                refusals.append(_refusal(name, now))
                continue
            known = self.world.arms[facts["arm"]]
            used = self._calls(known, facts)
            entries.append(self._entry(name, now, known, facts, used))
            calls += used
            for key in self._windows[facts["tenant"]]:
                self.spent[key] += facts["charged"]
                holds.append(_hold(facts["id"], key, facts["hold"]))
            if facts["graded"]:
                outcomes.append(_outcome(facts, now))
        return made

    def _plain(self, part: range) -> list[Values]:
        """Give plain values of the requests: what was picked, and of that arm what it did."""
        traffic, rows = self._traffic, slice(part.start, part.stop)
        arm = traffic.arm[rows]
        at = np.arange(len(arm))
        names = (
            "time_s",
            "tenant",
            "session",
            "question",
            "estimate",
            "arm",
            "propensity",
            "pinned",
            "refused",
            "predicted_quality",
            "predicted_cost_usd",
            "cached",
            "prompt",
            "in_doubt",
            "lost",
            "hold",
            "grade_prob",
            "graded",
        )
        columns = {name: getattr(traffic, name)[rows].tolist() for name in names}
        for name in ("completion", "correct", "failed"):
            columns[name] = getattr(traffic, name)[rows][at, arm].tolist()
        columns["charged"] = self._charged[rows].tolist()
        columns["id"] = self._ids[rows].tolist()
        keys = tuple(columns)
        return [
            dict(zip(keys, values, strict=True)) for values in zip(*columns.values(), strict=True)
        ]

    def _request(self, name: str, now: datetime, facts: Values) -> Values:
        tenant = self.world.tenants[facts["tenant"]]
        question = facts["question"]
        return {
            "id": name,
            "tenant": tenant.name,
            "end_user": None,
            "team": tenant.team,
            "tags": list(tenant.tags) or None,
            "session": f"sim-{self._traffic.day}-{facts['session']}",
            "model_asked": str(self.world.pinned) if facts["pinned"] else "auto",
            "answer_kind": self.bank.kinds[question],
            "query_sha256": self.bank.hashes[question],
            "query_text": self.bank.texts[question],
            "prompt_text": None,
            "received_at": now,
        }

    def _entry(
        self, name: str, now: datetime, known: SyntheticArm, facts: Values, used: list[Values]
    ) -> Values:
        broke = facts["in_doubt"] or facts["lost"]
        latency_s = None if facts["lost"] else sum(call["latency_s"] for call in used)
        ended = now + timedelta(seconds=latency_s or 0.0)
        answered = not broke and not facts["failed"]
        error = BROKE_OFF if facts["in_doubt"] else FAILED if facts["failed"] else None
        return {
            "id": facts["id"],
            "request_id": name,
            "attempt": 0,
            "replica_id": REPLICA,
            "model": known.arm.model,
            "strategy": known.arm.strategy,
            "propensity": facts["propensity"],
            "policy_version": self._version,
            "predicted_quality": facts["predicted_quality"],
            "predicted_cost_usd": facts["predicted_cost_usd"],
            "difficulty": facts["estimate"],
            "reason": "simulated: asked by name" if facts["pinned"] else "simulated: best value",
            "held_nano_usd": facts["hold"],
            "cost_nano_usd": facts["charged"],
            "status": EntryStatus.IN_DOUBT if broke else EntryStatus.SETTLED,
            "started_at": now,
            "finished_at": None if facts["lost"] else ended,
            "recovered_at": now + timedelta(minutes=2) if facts["lost"] else None,
            "latency_s": latency_s,
            "n_calls": len(used),
            **{name: sum(call[name] for call in used) for name in SUMMED},
            "usage_estimated": None if facts["lost"] else False,
            "complete": None if facts["lost"] else answered,
            "answer_value": ("simulated: right" if facts["correct"] else "simulated: wrong")
            if answered
            else None,
            "error": error,
        }

    def _calls(self, known: SyntheticArm, facts: Values) -> list[Values]:
        """Give the calls of an entry: samples, then a judge; one that broke off is the only one."""
        if facts["lost"]:
            return []
        if facts["in_doubt"]:
            call = self._call(known, facts, 0, "answer", 0)
            return [
                {
                    **call,
                    "cost_nano_usd": facts["hold"],
                    "status": "error",
                    "in_doubt": True,
                    "error": BROKE_OFF,
                }
            ]
        if facts["failed"]:
            call = self._call(known, facts, 0, "answer", 0)
            return [{**call, "status": "error", "error": FAILED}]
        tokens = facts["completion"]
        calls = [self._call(known, facts, i, "answer", tokens) for i in range(known.samples)]
        if known.judged:
            calls.append(self._call(known, facts, known.samples, "judge", JUDGE_TOKENS))
        return calls

    def _call(self, known: SyntheticArm, facts: Values, seq: int, role: str, tokens: int) -> Values:
        read, written = self._rates[self.world.models.index(known.arm.model)].tolist()
        prompt, cached = facts["prompt"], facts["cached"]
        return {
            "entry_id": facts["id"],
            "seq": seq,
            "model": known.arm.model,
            "role": role,
            "n_calls": 1,
            "prompt_tokens": prompt,
            "cached_prompt_tokens": cached,
            "cache_write_tokens": 0,
            "completion_tokens": tokens,
            "reasoning_tokens": int(known.reasoning_share * tokens) if role == "answer" else 0,
            "machine_ns": 0,
            "usage_estimated": False,
            "cost_nano_usd": prompt * read - cached * (read // 2) + tokens * written,
            "price_source": PRICE_SOURCE,
            "latency_s": 0.2 + SECONDS_PER_TOKEN * tokens,
            "status": "ok",
            "in_doubt": False,
            "error": None,
            "stage": 0,
            "provider": PROVIDER,
        }


SUMMED = (
    "prompt_tokens",
    "cached_prompt_tokens",
    "cache_write_tokens",
    "completion_tokens",
    "reasoning_tokens",
)


def _refusal(name: str, now: datetime) -> Values:
    return {"request_id": name, "reason": REFUSED, "refused_at": now}


def _hold(entry_id: int, key: tuple[int, datetime], amount_nano_usd: int) -> Values:
    return {
        "entry_id": entry_id,
        "budget_id": key[0],
        "window_start": key[1],
        "amount_nano_usd": amount_nano_usd,
    }


def _outcome(facts: Values, now: datetime) -> Values:
    return {
        "entry_id": facts["id"],
        "quality": float(facts["correct"]),
        "grader": GRADER,
        "weight": 1.0,
        "sample_prob": facts["grade_prob"],
        "recorded_at": now + GRADED_AFTER,
    }
