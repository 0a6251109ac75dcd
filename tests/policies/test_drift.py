"""Drift is shown where it was planted, and seldom where it was not."""

from __future__ import annotations

import numpy as np

from policies.drift import calibration_drift, input_drift

DELTA = 0.05


def test_a_shift_of_some_features_is_shown() -> None:
    """One feature of five moves by its spread."""
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(150, 5)), rng.normal(size=(120, 5))
    after[:, 2] += 1.0
    found = input_drift(before, after)
    assert found.drifted(DELTA)
    assert found.distance is not None
    assert 0.0 < found.distance < 1.0


def test_without_a_shift_drift_is_shown_as_seldom_as_it_says() -> None:
    """40 pairs of samples from one distribution."""
    rng = np.random.default_rng(1)
    shown = sum(
        input_drift(rng.normal(size=(40, 3)), rng.normal(size=(40, 3)), seed).drifted(DELTA)
        for seed in range(40)
    )
    assert shown <= 5


def test_too_few_requests_show_nothing() -> None:
    """Nineteen are too few; features that never vary do no harm."""
    assert not input_drift(np.zeros((19, 2)), np.ones((100, 2))).drifted(1.0)
    same = input_drift(np.ones((30, 2)), np.ones((30, 2)))
    assert (same.distance, same.p_value) == (0.0, 1.0)


def test_predictions_that_stop_coming_true_are_shown() -> None:
    """Told 0.9 and right in 0.7: shown; told 0.7: not."""
    rng = np.random.default_rng(2)
    right = (rng.random(400) < 0.7).astype(float)
    hopeful = calibration_drift(np.full(400, 0.9), right, DELTA)
    assert hopeful.drifted
    assert hopeful.high < 0.0
    assert hopeful.bias is not None
    assert abs(hopeful.bias + 0.2) < 0.06
    assert not calibration_drift(np.full(400, 0.7), right, DELTA).drifted
    nothing = calibration_drift(np.zeros(0), np.zeros(0), DELTA)
    assert (nothing.bias, nothing.drifted) == (None, False)
