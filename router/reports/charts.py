"""The charts of report, pages and notebooks: matplotlib, drawn once, as SVG that a page can colour.

Each takes plain data as it stands in the report's document and gives one ``<svg>`` element. The
same data give the same bytes: names are salted with the chart's own, and no time is written.
"""

from __future__ import annotations

import io
from datetime import date
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from router.reports.errors import ExtraNeededError
from router.reports.svg import embedded
from router.reports.words import NANO, money, percent, signed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes

    Data = Mapping[str, Any]

INK, MUTED, GRID = "#1b1f24", "#59636e", "#d8dee4"
BLUE, ORANGE, SKY, PAPER = "#1f5fa8", "#e69f00", "#8fb8e8", "#fefefe"
COLOURS = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    BLUE: "blue",
    ORANGE: "orange",
    SKY: "sky",
    PAPER: "paper",
}
WIDTH, HEIGHT, TALL = 4.6, 2.7, 3.1
"""Inches, 72 units each: as wide as half a page, and as a small screen."""
SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "path.simplify": True,
    "axes.formatter.use_mathtext": False,
}
DRAWING = Lock()
"""Settings and salt are the process's, so charts are drawn one at a time."""
STEPS = 24
"""Of a line between two arms: a mix of them is straight in USD, and bent on a scale of powers."""
LEAST_GAP = 0.075
"""Between two labels, as a share of the height."""


def draw(name: str, data: Data, *, literal: bool = False) -> str:
    """Draw the chart called ``name`` (a key of `CHARTS`) as one SVG element.

    With ``literal`` its colours are fixed and its letters drawn; otherwise colours are variables of
    the page and letters its own. ReportError
    where the drawing library is not installed.
    """
    paint, height = CHARTS[name]
    return painted(name, paint, height, data, literal=literal)


def painted(
    name: str, paint: Callable[[Axes, Data], None], height: float, data: Data, *, literal: bool
) -> str:
    """Draw one chart by ``paint``, ``height`` inches high, as `draw` does."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow to load
        from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ModuleNotFoundError as error:
        msg = "charts"
        raise ExtraNeededError(msg, "report") from error
    settings = SETTINGS | {"svg.hashsalt": name, "svg.fonttype": "path" if literal else "none"}
    with DRAWING, mpl.rc_context(cast("Any", settings)):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        paint(axes, data)
        written = io.StringIO()
        FigureCanvasSVG(figure)
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return embedded(
        written.getvalue(), name, data["title"], data["description"], {} if literal else COLOURS
    )


def burn_up(axes: Axes, data: Data) -> None:
    """Draw what was spent by the end of each day, where it leads, and the limit."""
    seen = [date.fromisoformat(day) for day in data["days"]]
    spent = [amount / NANO for amount in data["cumulated_nano_usd"]]
    first = date.fromisoformat(data["first"])
    last = date.fromisoformat(data["last"])
    at = [(day - first).days + 1 for day in seen]
    axes.plot([0, *at], [0.0, *spent], color=BLUE, linewidth=2.0, solid_capstyle="round")
    top = [*spent, 0.0]
    ahead = data["forecast"]
    if ahead:
        start = (date.fromisoformat(ahead[0]["day"]) - first).days
        known = spent[at.index(start)] if start in at else 0.0
        days = [start, *((date.fromisoformat(each["day"]) - first).days + 1 for each in ahead)]
        lows, middles, highs = (
            [known, *(each[key] for each in ahead)] for key in ("low_usd", "middle_usd", "high_usd")
        )
        axes.fill_between(days, lows, highs, color=SKY, alpha=0.45, linewidth=0)
        axes.plot(days, middles, color=BLUE, linewidth=1.6, linestyle=(0, (3, 2)))
        top += highs
        _label(axes, days[-1], middles[-1], f"{money(middles[-1])} forecast", "right")
    elif at:
        _label(axes, at[-1], spent[-1], money(spent[-1]), "right")
    if data["limit_nano_usd"] is not None:
        limit = data["limit_nano_usd"] / NANO
        axes.axhline(limit, color=ORANGE, linewidth=2.0)
        top.append(limit)
        _label(axes, 0, limit, f"limit {money(limit)}", "left")
    if ahead and at:
        axes.axvline(at[-1], color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
    length = (last - first).days + 1
    axes.set_xlim(0, length)
    axes.set_ylim(0, max(top) * 1.16 or 1.0)
    axes.set_xticks(
        [0, length / 2, length],
        [first.strftime("%d %b"), "", last.strftime("%d %b")],
    )
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.get_xticklabels()[-1].set_horizontalalignment("right")
    axes.grid(axis="y")
    axes.yaxis.set_major_formatter(lambda value, _at: _short(value))
    axes.yaxis.set_major_locator(_few())


def frontier(axes: Axes, data: Data) -> None:
    """Draw cost against accuracy of each arm; those nothing beats are joined."""
    points: Sequence[Data] = data["points"]
    for point in points:
        on = point["on_frontier"]
        axes.errorbar(
            point["cost_usd"],
            100 * point["accuracy"],
            yerr=196 * point["accuracy_error"],
            fmt="o" if on else "s",
            color=BLUE if on else MUTED,
            markersize=5.5 if on else 4,
            elinewidth=1.0,
            alpha=1.0 if on else 0.55,
        )
    line = [point for point in points if point["on_frontier"]]
    for start, end in pairwise(line):
        share = [i / STEPS for i in range(STEPS + 1)]
        axes.plot(
            [start["cost_usd"] + s * (end["cost_usd"] - start["cost_usd"]) for s in share],
            [100 * (start["accuracy"] + s * (end["accuracy"] - start["accuracy"])) for s in share],
            color=BLUE,
            linewidth=1.2,
        )
    labels = [(p["cost_usd"], 100 * p["accuracy"], p["label"]) for p in points if p["on_frontier"]]
    live = data["live"]
    if live is not None:
        right = live["accuracy"]
        reach = [[100 * (right["value"] - right["low"])], [100 * (right["high"] - right["value"])]]
        axes.errorbar(
            live["cost_usd"],
            100 * right["value"],
            yerr=reach,
            fmt="D",
            color=ORANGE,
            markeredgecolor=INK,
            markersize=8,
            elinewidth=1.6,
            zorder=5,
        )
        axes.annotate(
            "all answers",
            (live["cost_usd"], 100 * right["value"]),
            xytext=(8, -9),
            textcoords="offset points",
            ha="left",
            va="top",
            weight="bold",
        )
    if data["target"] is not None:
        axes.axhline(100 * data["target"], color=ORANGE, linewidth=1.4, linestyle=(0, (5, 2)))
    axes.set_xscale("log")
    axes.set_ylim(0, 100)
    costs = [point["cost_usd"] for point in points] + ([] if live is None else [live["cost_usd"]])
    axes.set_xlim(min(costs) * 0.6, max(costs) * 2.2)
    _place(axes, labels)
    if data["target"] is not None:
        at = max(costs) * 2.15
        _label(axes, at, 100 * data["target"], f"target {percent(data['target'], 0)}", "right")
    axes.set_xlabel("USD a question (each step ten times)")
    axes.grid(axis="y")
    axes.yaxis.set_major_formatter(lambda value, _at: f"{value:.0f}%")
    axes.xaxis.set_major_formatter(lambda value, _at: f"${value:g}")
    axes.xaxis.set_minor_formatter(lambda _value, _at: "")
    axes.tick_params(which="minor", length=0)


def change(axes: Axes, data: Data) -> None:
    """Draw the way from what was spent before to what is spent now."""
    steps = data["parts"]
    names = ["before", *(step["name"] for step in steps), "now"]
    ends = [data["before_nano_usd"] / NANO, data["after_nano_usd"] / NANO]
    level, reach = ends[0], [0.0, *ends]
    axes.barh(0, ends[0], color=MUTED, height=0.62)
    for i, step in enumerate(steps, start=1):
        amount = step["nano_usd"] / NANO
        axes.barh(i, amount, left=level, color=ORANGE if amount > 0 else BLUE, height=0.62)
        axes.plot([level, level], [i - 0.69, i + 0.31], color=MUTED, linewidth=0.7)
        level += amount
        reach.append(level)
    axes.barh(len(names) - 1, ends[1], color=MUTED, height=0.62)
    span = max(reach) - min(reach) or 1.0
    axes.set_xlim(min(reach) - 0.02 * span, max(reach) + 0.02 * span)
    told = [money(ends[0]), *(signed(step["nano_usd"] / NANO) for step in steps), money(ends[1])]
    _name_bars(axes, names, told)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.axvline(0, color=MUTED, linewidth=0.8)


def compute(axes: Axes, data: Data) -> None:
    """Draw what the spend was for, the largest first."""
    parts = data["parts"]
    widths = [part["nano_usd"] / NANO for part in parts]
    axes.barh(range(len(parts)), widths, color=BLUE, height=0.6)
    told = [
        f"{money(width)}, {percent(part['share'])}"
        for width, part in zip(widths, parts, strict=True)
    ]
    _name_bars(axes, [part["name"] for part in parts], told)
    axes.set_ylim(len(parts) - 0.4, -0.6)
    axes.set_xlim(0, max(widths, default=0.0) * 1.02 or 1.0)


CHARTS: dict[str, tuple[Callable[[Axes, Data], None], float]] = {
    "burn_up": (burn_up, HEIGHT),
    "frontier": (frontier, TALL),
    "change": (change, TALL),
    "compute": (compute, 2.1),
}


def _name_bars(axes: Axes, names: Sequence[str], told: Sequence[str]) -> None:
    """Write a name to the left and a figure to the right of each bar; nothing else is needed."""
    axes.set_yticks(range(len(names)), names)
    right = axes.secondary_yaxis("right")
    right.patch.set_visible(False)
    right.set_yticks(range(len(names)), told)
    right.tick_params(colors=INK)
    right.spines["right"].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_xticks([])
    axes.tick_params(axis="y", colors=INK)


def _label(axes: Axes, x: float, y: float, text: str, side: str) -> None:
    axes.annotate(
        text,
        (x, y),
        xytext=(3 if side == "left" else -3, 4),
        textcoords="offset points",
        ha=side,
        va="bottom",
        color=INK,
    )


def _place(axes: Axes, labels: Sequence[tuple[float, float, str]]) -> None:
    """Write labels beside their points, moved apart where they would cover each other."""
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    gap = LEAST_GAP * (high - low)
    placed: list[float] = []
    for x, y, text in sorted(labels, key=lambda label: (label[1], label[0])):
        at = y
        while any(abs(at - other) < gap for other in placed):
            at += gap / 4
        placed.append(at)
        side = "left" if x * x < left * right else "right"
        axes.annotate(
            text,
            (x, y),
            xytext=(x * (1.16 if side == "left" else 1 / 1.16), at),
            ha=side,
            va="center",
            color=INK,
        )


def _few() -> Any:  # noqa: ANN401 - a locator, whose library may be missing when this is imported
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - an extra

    return MaxNLocator(4)


def _short(amount: float) -> str:
    """Write an amount on an axis."""
    return "$0" if amount == 0 else f"${amount:,.4g}"
