"""How a comparison of contestants looks: what each bought, and what routing did."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from router.cli.console import plain_table, usd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from router.jobs.comparison import Graded, Result

THIRDS = ("easy", "middle", "hard")


def show_results(screen: Console, results: Sequence[Result], concurrency: int) -> None:
    """Print one line a contestant, routing last, and routing against the one before it."""
    from router.jobs.comparison import accuracy_gain

    table = plain_table("", "right", "95 % interval", "cost", "a right answer", "seconds")
    routed = results[-1]
    for result in results:
        low, high = result.interval()
        per_right = result.usd_per_correct
        table.add_row(
            result.contestant.label,
            f"{result.accuracy:.0%}",
            f"{low:.0%} .. {high:.0%}",
            f"${result.cost_usd:.9f}",
            "-" if per_right is None else usd(float(per_right)),
            f"{result.mean_latency_s:.1f}",
            style="bold" if result is routed else None,
        )
    screen.print(table)
    for result in results[:-1]:
        contestant = result.contestant
        screen.print(f"{contestant.label}: {contestant.model}|{contestant.strategy}", markup=False)
    n = len(routed.answers)
    screen.print(f"The same {n} questions each, {concurrency} at a time.")
    for rival in results[-2:-1]:
        gain, low, high = accuracy_gain(routed, rival)
        cost = routed.cost_usd / rival.cost_usd - 1 if rival.cost_usd else 0
        screen.print(
            f"Routed against {rival.contestant.label}: {100 * gain:+.0f} points right "
            f"(95 % {100 * low:+.0f} .. {100 * high:+.0f}), {cost:+.0%} cost.",
            markup=False,
            soft_wrap=True,
        )


def show_routing(screen: Console, routed: Result) -> None:
    """Print which arms answered, by thirds of predicted difficulty."""
    graded = [answer for answer in routed.answers if answer.difficulty is not None]
    if len(graded) < len(THIRDS):
        screen.print("too few questions to tell")
        return
    ranked = sorted(graded, key=difficulty_of)
    third = len(ranked) / len(THIRDS)
    table = plain_table("difficulty", "questions", "right")
    table.add_column("arms chosen", overflow="fold")
    for i, name in enumerate(THIRDS):
        held = ranked[round(i * third) : round((i + 1) * third)]
        chosen = Counter(answer.arm for answer in held)
        table.add_row(
            f"{name} {difficulty_of(held[0]):.2f} .. {difficulty_of(held[-1]):.2f}",
            str(len(held)),
            f"{sum(answer.correct for answer in held) / len(held):.0%}",
            "\n".join(f"{count} x {arm}" for arm, count in chosen.most_common()),
        )
    screen.print(table)


def difficulty_of(answer: Graded) -> float:
    """Give the difficulty that was predicted, in [0, 1]."""
    return answer.difficulty or 0.0
