"""A process that works on the planted study and hangs in one of its trials, to be killed there."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from planted import planted

from policies.cross_validation import CrossValidation
from policies.tuning import Goal, tune
from router.jobs.studies import study_place

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from policies.cross_validation import Parameters

GOAL = Goal(accuracy_target=0.75)
TRIALS = 12
SEED = 3


class HangingCrossValidation(CrossValidation):
    """Says so and hangs when the predictions for ``hangs_at`` + 1 parameters are asked for."""

    hangs_at: int | None = None

    def predict(self, parameters: Parameters) -> NDArray[np.float64]:
        """Predict, or hang."""
        if len(self._predicted) == self.hangs_at:
            sys.stdout.write("hanging\n")
            sys.stdout.flush()
            time.sleep(600)
        return super().predict(parameters)


def study_data() -> HangingCrossValidation:
    """Cut the planted outcomes into folds."""
    table = planted(60)
    return HangingCrossValidation(
        table.queries, table.quality_matrix(), table.matrix("cost_usd"), table.arms
    )


if __name__ == "__main__":
    data = study_data()
    data.hangs_at = int(sys.argv[2])
    with study_place(sys.argv[1], "planted") as place:
        tune(data, GOAL, trials=TRIALS, seed=SEED, place=place)
