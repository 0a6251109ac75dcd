"""Hold a report against what must not be: for a job that fails when money or quality goes wrong."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cost_models.accuracy import Standing
from router.reports.errors import ReportError
from router.reports.tiles import LIKELY_OVER

if TYPE_CHECKING:
    from collections.abc import Mapping


class Gate(StrEnum):
    """What a report may fail on."""

    OVER_BUDGET = "over-budget"
    ACCURACY = "accuracy"


class Verdict(StrEnum):
    """How a gate was decided; UNDECIDED where there is too little data."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"


def parse_gates(text: str) -> list[Gate]:
    """Read ``over-budget,accuracy``; ReportError names those there are."""
    try:
        return [Gate(part.strip()) for part in text.split(",")]
    except ValueError as error:
        names = ", ".join(gate.value for gate in Gate)
        msg = f"--fail-on takes {names}, separated by commas, got {text!r}"
        raise ReportError(msg) from error


def judge(document: Mapping[str, Any], gate: Gate) -> tuple[Verdict, str]:
    """Decide a gate by a report's document; give the verdict and the tile's words for it."""
    tiles = {tile["name"]: tile for tile in document["tiles"]}
    return _over_budget(document, tiles) if gate is Gate.OVER_BUDGET else _accuracy(tiles)


def _over_budget(
    document: Mapping[str, Any], tiles: Mapping[str, Mapping[str, Any]]
) -> tuple[Verdict, str]:
    spent, coming = tiles["spent"], tiles["forecast"]
    if spent["status"] == Standing.BREACH:
        return Verdict.FAILED, spent["detail"]
    if spent["status"] == Standing.NOT_ENOUGH_DATA:
        return Verdict.UNDECIDED, spent["detail"]
    chance = coming.get("probability_over")
    if not document["header"]["over"] and chance is not None and chance >= LIKELY_OVER:
        return Verdict.FAILED, coming["detail"]
    return Verdict.PASSED, spent["detail"]


def _accuracy(tiles: Mapping[str, Mapping[str, Any]]) -> tuple[Verdict, str]:
    tile = tiles["accuracy"]
    if tile["status"] == Standing.BREACH:
        return Verdict.FAILED, tile["detail"]
    undecided = tile["status"] in {None, Standing.NOT_ENOUGH_DATA}
    return (Verdict.UNDECIDED if undecided else Verdict.PASSED), tile["detail"]
