"""Drift of the requests and of the predictions since the policy in service was fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.drift import CalibrationDrift, InputDrift, calibration_drift, input_drift
from storage.outcomes import read_episodes

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from policies.artifacts import FittedPolicy

DELTA = 0.05


@dataclass(frozen=True, slots=True)
class Drift:
    """Drift since a moment: of requests against those before it, of predictions against grades."""

    version: str
    since: datetime
    inputs: InputDrift
    calibration: CalibrationDrift

    @property
    def warnings(self) -> list[str]:
        """Say what has drifted; nothing where no drift is shown."""
        found = []
        if self.inputs.drifted(DELTA):
            found.append(
                f"requests have changed (energy distance {self.inputs.distance:.3f}, "
                f"p = {self.inputs.p_value:.3f})"
            )
        if self.calibration.drifted:
            found.append(
                f"answers are right {self.calibration.bias:+.3f} against what was predicted "
                f"({self.calibration.low:+.3f} to {self.calibration.high:+.3f})"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Give plain JSON."""
        return {
            "version": self.version,
            "since": self.since.isoformat(),
            "inputs": self.inputs.to_dict(),
            "calibration": self.calibration.to_dict(),
            "warnings": self.warnings,
        }


def drift_since(session: Session, fitted: FittedPolicy, since: datetime) -> Drift:
    """Compare the ledger's requests and grades from ``since`` on with what was before."""
    before = [episode.query.text for episode in read_episodes(session, until=since)]
    after, predicted, quality = [], [], []
    for episode in read_episodes(session, since):
        after.append(episode.query.text)
        made, grade = episode.decision, episode.outcome.quality
        own = made.policy_version.split(":", 1)[0] == fitted.version
        if own and grade is not None and made.predicted_quality is not None:
            predicted.append(made.predicted_quality)
            quality.append(grade)
    features = fitted.estimator.features_
    first, then = (
        features.transform(texts) if texts else np.zeros((0, 1)) for texts in (before, after)
    )
    return Drift(
        fitted.version,
        since,
        input_drift(first, then),
        calibration_drift(np.array(predicted), np.array(quality), DELTA),
    )
