"""A planning scenario: one strict YAML file that says what the future is taken to be."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from cost_models.allocation import Demand
from cost_models.curves import BudgetCurve, Point
from cost_models.ownership import Machines, Range
from cost_models.training import Bin, Scaling
from router.errors import ConfigError
from router.gateway.strict import Strict, problems, wrong

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Self

THREE = 3


def _moment(value: Any) -> Any:  # noqa: ANN401 - whatever YAML makes of it
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Moment = Annotated[datetime, BeforeValidator(_moment)]
"""A time in UTC; one without a zone, or a day alone, is taken for UTC."""
Ranged = Annotated[
    list[NotNegative],
    BeforeValidator(lambda value: [value] * THREE if isinstance(value, int | float) else value),
    Field(min_length=THREE, max_length=THREE),
]
"""One number, or low, likely and high."""


class PointForm(Strict):
    """One point of a curve, see `cost_models.curves.Point`."""

    cost_usd: NotNegative
    accuracy: Share
    low: Share | None = None


class TeamForm(Strict):
    """What a team will ask in the period."""

    queries: Positive
    least_accuracy: Share = 0.0


class MachinesForm(Strict):
    """See `cost_models.ownership.Machines`; three numbers are low, likely and high."""

    queries_per_month: Positive | None = None
    usd_per_query: Ranged
    s_per_query: Ranged
    usd_per_machine_month: Ranged
    kw: Ranged = Field(default=0.0, validate_default=True)
    usd_per_kwh: Ranged = Field(default=0.0, validate_default=True)
    usd_fixed_month: Ranged = Field(default=0.0, validate_default=True)
    usd_setup: Ranged = Field(default=0.0, validate_default=True)
    setup_months: Ranged = Field(default=36.0, validate_default=True)
    utilisation: Ranged = Field(default=0.7, validate_default=True)
    peak_to_mean: Ranged = Field(default=2.0, validate_default=True)

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.likely()
        for name, (low, likely, high) in self._all():
            if not low <= likely <= high:
                msg = "low, likely and high have to be in this order"
                raise wrong(msg, at=(name,))
        for name, ranged in self.ranges().items():
            for end in (ranged.low, ranged.high):
                Machines(**{**self._likely(), name: end})
        return self

    def _likely(self) -> dict[str, float]:
        return {name: likely for name, (_, likely, _) in self._all()}

    def _all(self) -> list[tuple[str, list[float]]]:
        names = type(self).model_fields.keys() - {"queries_per_month"}
        return [(name, getattr(self, name)) for name in sorted(names)]

    def likely(self) -> Machines:
        """Give the machines at the likely values."""
        return Machines(**self._likely())

    def ranges(self) -> dict[str, Range]:
        """Give what is uncertain."""
        return {name: Range(*value) for name, value in self._all() if value[0] < value[2]}


class BinForm(Strict):
    """See `cost_models.training.Bin`."""

    small: Share
    large: Share


class TrainingForm(Strict):
    """See `cost_models.training`."""

    scale: Annotated[float, Field(gt=1, allow_inf_nan=False)]
    ratios: Annotated[list[Positive], Field(min_length=1)]
    reliability: Share
    bins: Annotated[dict[str, BinForm], Field(min_length=1)]

    def scalings(self) -> list[Scaling]:
        """Give one scaling for each ratio."""
        return [Scaling(self.scale, ratio) for ratio in self.ratios]

    def parts(self) -> list[Bin]:
        """Give the bins in their order."""
        return [Bin(name, form.small, form.large) for name, form in self.bins.items()]


class Scenario(Strict):
    """The whole file; every part may be missing."""

    days: Annotated[int, Field(ge=1, le=3660)] = 30
    budget_usd: Positive | None = None
    volume: Positive = 1.0
    price: Positive = 1.0
    target: Share | None = None
    mix: Annotated[dict[str, Positive], Field(min_length=1)] | None = None
    until: Moment | None = None
    teams: Annotated[dict[str, TeamForm], Field(min_length=1)] | None = None
    curve: Annotated[list[PointForm], Field(min_length=1)] | None = None
    machines: MachinesForm | None = None
    training: TrainingForm | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mix is not None and self.curve is not None:
            msg = "the points under `curve` are of one mix of questions; leave one of both out"
            raise wrong(msg, at=("mix",))
        return self

    @property
    def asks_for_a_budget(self) -> bool:
        """Whether something in the file is about a budget."""
        about = (self.budget_usd, self.teams, self.curve, self.target, self.mix)
        return any(part is not None for part in about)

    def budget_curve(self, measured: BudgetCurve | None) -> BudgetCurve | None:
        """Give the file's curve, or else the measured one, at the scenario's prices."""
        curve = measured
        if self.curve is not None:
            curve = BudgetCurve.of(Point(p.cost_usd, p.accuracy, p.low) for p in self.curve)
        return None if curve is None else curve.repriced(self.price)

    def demands(self, measured: Mapping[str, float], curve: BudgetCurve) -> dict[str, Demand]:
        """Give what the file's teams will ask, or else what was ``measured``, times the volume."""
        if self.teams is None:
            return {team: Demand(n * self.volume, curve) for team, n in measured.items() if n > 0}
        return {
            team: Demand(form.queries * self.volume, curve, form.least_accuracy)
            for team, form in self.teams.items()
        }


def load_scenario(path: Path) -> Scenario:
    """Read a scenario; ConfigError names the file and every place that is wrong."""
    try:
        given: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read: {error}"
        raise ConfigError(msg) from error
    except yaml.YAMLError as error:
        msg = f"{path} is not YAML: {error}"
        raise ConfigError(msg) from error
    try:
        return Scenario.model_validate({} if given is None else given)
    except ValidationError as error:
        told = "; ".join(
            f"{problem.place or 'the file'}: {problem.message}"
            for problem in problems(error.errors(include_url=False))
        )
        msg = f"{path}: {told}"
        raise ConfigError(msg) from error
