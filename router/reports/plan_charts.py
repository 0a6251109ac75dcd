"""The charts of planning: what a budget buys, own or rent, what matters most, think or train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router.reports.charts import (
    BLUE,
    HEIGHT,
    INK,
    MUTED,
    ORANGE,
    SKY,
    TALL,
    painted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from matplotlib.axes import Axes

    Data = Mapping[str, Any]


def draw_plan(name: str, data: Data) -> str:
    """Draw the chart called ``name`` (a key of `CHARTS`) with fixed colours, as one SVG element."""
    paint, height = CHARTS[name]
    return painted(name, paint, height, data, literal=True)


def bought(axes: Axes, data: Data) -> None:
    """Draw the share of right answers over budgets, with its lower bound.

    ``budget_usd``, ``accuracy`` and ``low`` (shares) are of equal length; ``chosen_usd`` is marked.
    """
    budgets = data["budget_usd"]
    right = [100 * share for share in data["accuracy"]]
    low = [100 * share for share in data["low"]]
    axes.fill_between(budgets, low, right, color=SKY, alpha=0.45, linewidth=0)
    axes.plot(budgets, right, color=BLUE, linewidth=2.0)
    axes.plot(budgets, low, color=BLUE, linewidth=1.0, linestyle=(0, (3, 2)))
    axes.axvline(data["chosen_usd"], color=ORANGE, linewidth=1.6)
    axes.set_xlabel("budget, USD")
    _percents(axes)


def owned(axes: Axes, data: Data) -> None:
    """Draw what tokens and own machines cost a month, over questions a month.

    ``volume``, ``tokens_usd`` and ``owned_usd`` are of equal length; ``first`` is where owning
    begins to pay, None where it never does, ``low`` and ``high`` its interval.
    """
    axes.plot(data["volume"], data["tokens_usd"], color=ORANGE, linewidth=2.0)
    axes.plot(data["volume"], data["owned_usd"], color=BLUE, linewidth=2.0)
    last = -1
    for series, label, colour in (("tokens_usd", "tokens", INK), ("owned_usd", "own", INK)):
        axes.annotate(
            label,
            (data["volume"][last], data[series][last]),
            xytext=(-3, 4),
            textcoords="offset points",
            ha="right",
            color=colour,
        )
    if data["low"] is not None and data["high"] is not None:
        reach = data["volume"][last]
        axes.axvspan(min(data["low"], reach), min(data["high"], reach), color=SKY, alpha=0.3)
    if data["first"] is not None:
        axes.axvline(data["first"], color=MUTED, linewidth=1.2, linestyle=(0, (3, 2)))
    axes.set_xlim(0, data["volume"][last])
    axes.set_ylim(0)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel("questions a month")
    axes.grid(axis="y")
    axes.xaxis.set_major_formatter(lambda value, _at: f"{value:,.0f}")
    axes.yaxis.set_major_formatter(lambda value, _at: f"${value:,.0f}")


def matters(axes: Axes, data: Data) -> None:
    """Draw by how much each quantity moves the break-even, the strongest first.

    ``bars`` have a ``name`` and the volumes ``at_low`` and ``at_high`` of its range.
    """
    bars = data["bars"]
    for i, bar in enumerate(bars):
        left, right = sorted((bar["at_low"], bar["at_high"]))
        axes.barh(i, right - left, left=left, color=BLUE, height=0.6)
    axes.axvline(data["first"], color=ORANGE, linewidth=1.4)
    axes.set_yticks(range(len(bars)), [bar["name"] for bar in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel("break-even, questions a month")
    axes.tick_params(axis="y", colors=INK)
    axes.xaxis.set_major_formatter(lambda value, _at: f"{value:,.0f}")


def weighed(axes: Axes, data: Data) -> None:
    """Draw thinking longer against training bigger: right answers over the ratio of use.

    ``ratio`` is tokens answered for one trained on; each of ``bins`` has a ``name`` and the shares
    right by ``thinking`` and by ``training``, which are one for each ratio.
    """
    colours = (BLUE, ORANGE, MUTED)
    for part, colour in zip(data["bins"], colours, strict=False):
        thought = [100 * share for share in part["thinking"]]
        axes.plot(data["ratio"], thought, color=colour, linewidth=2.0)
        axes.plot(
            data["ratio"],
            [100 * share for share in part["training"]],
            color=colour,
            linewidth=1.2,
            linestyle=(0, (3, 2)),
        )
        axes.annotate(
            part["name"],
            (data["ratio"][0], thought[0]),
            xytext=(3, 4),
            textcoords="offset points",
            color=INK,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _at: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda _value, _at: "")
    axes.set_xlabel("tokens answered for each trained on (solid: think, dashed: train)")
    _percents(axes)


CHARTS: dict[str, tuple[Callable[[Axes, Data], None], float]] = {
    "bought": (bought, HEIGHT),
    "owned": (owned, TALL),
    "matters": (matters, HEIGHT),
    "weighed": (weighed, TALL),
}


def _percents(axes: Axes) -> None:
    axes.set_ylim(0, 100)
    axes.grid(axis="y")
    axes.yaxis.set_major_formatter(lambda value, _at: f"{value:.0f}%")
