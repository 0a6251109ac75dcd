"""Learn a policy from practice: outcomes of verifiable questions, fitted and put in service."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policies.artifacts import from_bytes, to_bytes
from policies.outcomes import read_outcomes
from policies.training import train
from storage.policies import policy_in_service, promote_policy, save_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from cost_models.types import Arm
    from policies.artifacts import FittedPolicy
    from policies.outcomes import OutcomeTable
    from policies.training import Training
    from storage.store import Ledger

SHIPPED = "embedded_outcomes.jsonl"
HASH_CHARS = 12


def shipped_outcomes() -> Path:
    """Give the outcomes of the embedded models that ship with the project.

    Real answers, graded, made by ``rheostat collect``; see docs/local-models.md for how.
    """
    return Path(str(resources.files("router.jobs").joinpath(SHIPPED)))


def practised(path: Path, arms: Sequence[Arm]) -> OutcomeTable:
    """Read the outcomes of ``arms``; the table's source names the file's content, not its place."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:HASH_CHARS]
    table = read_outcomes(path)
    known = [arm for arm in table.arms if arm in set(arms)]
    return replace(table.of_arms(known), source=f"{path.name} {digest}")


def fit_into_service(
    ledger: Ledger,
    table: OutcomeTable,
    training: Training,
    now: datetime,
    progress: Callable[[int, int, float], None] | None = None,
) -> tuple[FittedPolicy, bool]:
    """Fit a policy on ``table`` and promote it, unless the one in service came from just that.

    Gives the policy and whether it was fitted now.
    """
    stored = ledger.read(policy_in_service)
    if stored is not None and _same(stored.manifest, table, training):
        return from_bytes(stored.artifact), False
    fitted = train(table, training, created_at=now, progress=progress)
    artifact = to_bytes(fitted)

    def put(session: Session) -> None:
        save_policy(session, fitted.version, artifact, fitted.manifest, now)
        promote_policy(session, fitted.version, now)

    ledger.write(put)
    return fitted, True


def _same(manifest: Mapping[str, Any], table: OutcomeTable, training: Training) -> bool:
    wanted = {
        "source": table.source,
        "arms": [str(arm) for arm in table.arms],
        "goal": str(training.goal),
        "trials": training.trials,
        "seed": training.seed,
        "epsilon": training.epsilon,
    }
    return all(manifest.get(name) == value for name, value in wanted.items())
