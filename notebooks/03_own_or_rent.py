# %% [markdown]
# # Own or rent, train or think
#
# Test-time compute on small models, a bigger model, or machines of our own? What is compared is compared at **equal accuracy**:
# a cheaper answer that is wrong more often is another product.

# %% tags=["parameters"]
ledger_url = "sqlite:///simulated.db"
days_back = 30
accuracy = None  # what both ways have to reach; None is what was reached
growth = 300.0  # times today's volume, at which payback is asked
# of one machine that serves the open model in place of the tokens: (low, likely, high)
s_per_query = (0.08, 0.15, 0.3)  # busy seconds for a question, many at once, at that accuracy
usd_per_machine_month = (600.0, 900.0, 1400.0)  # rent, or price over months of life
usd_fixed_month = (0.0, 300.0, 900.0)  # staff and the rest
kw, usd_per_kwh, usd_setup = 0.9, 0.25, 6000.0
utilisation, peak_to_mean = 0.7, 2.0  # of the busiest hour, and its load over the mean
# a model so many times as large, and how often one sample of either is right
scale, reliability = 14.0, 0.7
bins = {"easy": (0.35, 0.7), "medium": (0.05, 0.35), "hard": (0.0005, 0.1)}

# %%
from dataclasses import replace
from datetime import timedelta
from math import isinf

from cost_models.curves import BudgetCurve, Point
from cost_models.ownership import (
    Machines,
    Range,
    break_even,
    payback_months,
    simulate,
    tornado,
)
from cost_models.training import Bin, Scaling, think_or_train
from router.reports.desk import Table, chart, open_desk
from router.reports.words import money, percent
from storage.facts import Asked, read_facts

ledger, now = open_desk(ledger_url)
since = now - timedelta(days=days_back)
facts = ledger.read(lambda session: read_facts(session, Asked(since, now)))
ledger.close()
if facts.simulated:
    print("SIMULATED: requests, answers and money are made up.")


def volume_of(queries):
    """Write a volume; infinite is never."""
    return "never" if isinf(queries) else f"{queries:,.0f}"


# %% [markdown]
# ## What a question costs by token, at equal accuracy
#
# Each arm as measured by random picks on all questions, and the mixture of two of them that reaches the accuracy asked for. One that
# does not reach it is not an option, however cheap.

# %%
points = [Point(p.cost_usd, p.accuracy) for p in facts.frontier]
assert points, "too few random picks and grades: let the policy explore, and grade more answers"
curve = BudgetCurve.of(points)
reached = facts.whole.accuracy
asked = min(
    accuracy or (curve.corners[-1].accuracy if reached is None else reached.value),
    curve.corners[-1].accuracy,
)
rented = curve.cost_of(asked)
served = (facts.whole.cost_nano_usd or 0) / 1e9 / facts.whole.n_closed
rows = [
    [
        p.name,
        money(p.cost_usd),
        percent(p.accuracy),
        "yes" if p.accuracy + 1.96 * p.accuracy_error >= asked else "no",
    ]
    for p in sorted(facts.frontier, key=lambda p: p.cost_usd)
]
rows.append([f"mixture of arms at {percent(asked)}", money(rented), percent(asked), "yes"])
if reached is not None:
    rows.append(["the policy, as served", money(served), percent(reached.value), "yes"])
Table(["way", "USD a question", "accuracy", "may reach it"], rows)

# %% [markdown]
# ## The line and the staircase
#
# Tokens cost a line over volume. Machines come whole, and have to carry the busiest hour. The band is where nine draws
# in ten of what is uncertain break even.

# %%
per_query = served if reached is not None and asked <= reached.value else rented
machines = Machines(
    usd_per_query=per_query,
    s_per_query=s_per_query[1],
    usd_per_machine_month=usd_per_machine_month[1],
    usd_fixed_month=usd_fixed_month[1],
    kw=kw,
    usd_per_kwh=usd_per_kwh,
    usd_setup=usd_setup,
    utilisation=utilisation,
    peak_to_mean=peak_to_mean,
)
ranges = {
    "usd_per_query": Range(0.7 * per_query, per_query, 1.2 * per_query),
    "s_per_query": Range(*s_per_query),
    "usd_per_machine_month": Range(*usd_per_machine_month),
    "usd_fixed_month": Range(*usd_fixed_month),
}
even, drawn = break_even(machines), simulate(machines, ranges)
monthly = facts.whole.n_closed / days_back * 30.4
if isinf(even.first):
    print("owning never pays at these figures, whatever the volume")
else:
    print(
        f"owning pays from {even.first:,.0f} questions a month, for good from "
        f"{volume_of(even.always)}; the machines are then busy {even.busy_share:.0%}"
    )
    assert machines.owned_usd(even.first) <= machines.bought_usd(even.first) * 1.000001
print(
    f"nine draws in ten: {volume_of(drawn.low)} to {volume_of(drawn.high)}; "
    f"in {drawn.never:.0%} it never pays"
)
print(f"today there are {monthly:,.0f} a month")

# %%
known = [v for v in (even.first, drawn.high, monthly) if not isinf(v)]
volumes = [max(known) * 1.5 * i / 200 for i in range(1, 201)]
chart(
    "owned",
    {
        "title": "Tokens and own machines, a month",
        "description": f"Owning pays from {volume_of(even.first)} questions a month; "
        f"today there are {monthly:,.0f}.",
        "volume": volumes,
        "tokens_usd": [machines.bought_usd(v) for v in volumes],
        "owned_usd": [machines.owned_usd(v) for v in volumes],
        "first": None if isinf(even.first) else even.first,
        "low": None if isinf(drawn.low) else drawn.low,
        "high": volumes[-1] if isinf(drawn.high) else drawn.high,
    },
)

# %% [markdown]
# ## What matters most
#
# One quantity at a time at either end of its range, all others likely.

# %%
words = {
    "usd_per_query": "price of a question by token",
    "s_per_query": "seconds a question takes",
    "usd_per_machine_month": "cost of a machine",
    "usd_fixed_month": "staff and other fixed cost",
}
bars = [replace(bar, name=words.get(bar.name, bar.name)) for bar in tornado(machines, ranges)]
Table(
    ["quantity", "break-even at its low", "at its high"],
    [[bar.name, volume_of(bar.at_low), volume_of(bar.at_high)] for bar in bars],
)

# %%
finite = [bar for bar in bars if not isinf(bar.at_low) and not isinf(bar.at_high)]
drawing = {
    "title": "What moves the break-even",
    "description": "; ".join(
        f"{bar.name}: {volume_of(bar.at_low)} to {volume_of(bar.at_high)}" for bar in finite
    ),
    "bars": [{"name": bar.name, "at_low": bar.at_low, "at_high": bar.at_high} for bar in finite],
    "first": 0.0 if isinf(even.first) else even.first,
}
chart("matters", drawing) if finite else Table(["no quantity alone has a break-even"], [])

# %% [markdown]
# ## Payback, and the way out
#
# Months until saved tokens have paid for the setup. Whoever stops before has paid the setup that is not yet spread, which is what
# leaving costs; tokens have no such cost.

# %%
rows = []
for factor in (1.0, growth / 4, growth):
    there = monthly * factor
    months = payback_months(machines, there)
    rows.append(
        [
            f"{factor:g} times today",
            f"{there:,.0f}",
            money(machines.bought_usd(there)),
            money(machines.owned_usd(there)),
            machines.needed(there),
            f"{machines.busy_share(there):.0%}",
            "never" if isinf(months) else f"{months:.1f} months",
            money(usd_setup * max(0.0, 1 - 12 / machines.setup_months)),
        ]
    )
Table(
    [
        *("volume", "questions a month", "tokens", "own", "machines", "busy", "payback"),
        "leaving after a year",
    ],
    rows,
)

# %% [markdown]
# ## Train a bigger model, or think longer?
#
# At equal FLOPs: a model so many times as large costs as much more to train (6ND) and to run (2ND a token), which the small one may
# spend on more samples (Snell et al. 2024). That a selector finds a right sample with the given reliability is an
# assumption of this model, not a measurement of the paper.

# %%
ratios = [10 ** (-1.5 + 3.5 * i / 40) for i in range(41)]
parts = [Bin(name, small, large) for name, (small, large) in bins.items()]
verdicts = {
    part.name: [think_or_train(part, Scaling(scale, ratio), reliability) for ratio in ratios]
    for part in parts
}
chart(
    "weighed",
    {
        "title": "Thinking longer against training bigger",
        "description": "; ".join(
            f"{name}: think below {volume_of(found[0].break_even_ratio)} tokens answered for each "
            "trained on"
            if found[0].break_even_ratio
            else f"{name}: train"
            for name, found in verdicts.items()
        ),
        "ratio": ratios,
        "bins": [
            {
                "name": name,
                "thinking": [verdict.thinking for verdict in found],
                "training": [verdict.training for verdict in found],
            }
            for name, found in verdicts.items()
        ],
    },
)

# %%
for found in verdicts.values():
    below = [verdict.think for verdict in found]
    assert below == sorted(below, reverse=True), "more use never makes thinking better"
cheap = replace(machines, usd_per_query=machines.usd_per_query * 0.7)
print(f"if tokens get 30 % cheaper, owning pays from: {volume_of(break_even(cheap).first)}")
