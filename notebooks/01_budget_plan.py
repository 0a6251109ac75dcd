# %% [markdown]
# # Budget plan
#
# What budget for the next weeks, and what quality does it buy? Everything is read from the ledger, by the same functions as
# the report; each figure has its definition in the documentation under *Reports* and *Planning*.

# %% tags=["parameters"]
ledger_url = "sqlite:///simulated.db"
days_back = 30  # demand and accuracy are those of so many days
days_ahead = 30  # what the budget is for
target = 0.75  # accuracy that was promised
volume_factor = 1.0  # 1.2 is a fifth more questions
price_factor = 1.0  # 0.9 is prices a tenth lower
budget_usd = None  # None is what the forecast says
promised = {}  # accuracy promised to teams: {"finance": 0.75}

# %%
from datetime import timedelta

from cost_models.allocation import Demand, Shortfall, allocate
from cost_models.curves import BudgetCurve, Point
from router.reports.desk import Table, chart, open_desk
from router.reports.words import money, percent
from storage.facts import Asked, read_facts

ledger, now = open_desk(ledger_url)
since, until = now - timedelta(days=days_back), now
asked = Asked(since, until, target=target, forecast_to=until + timedelta(days=days_ahead))
facts = ledger.read(lambda session: read_facts(session, asked))
if facts.simulated:
    print("SIMULATED: requests, answers and money are made up.")

# %% [markdown]
# ## What is known
#
# A plan is as good as what it is made from. Where few answers are graded, intervals below are wide.

# %%
coverage = facts.coverage
Table(
    ["what", "how much"],
    [
        ["time", f"{since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC"],
        ["questions", f"{facts.n_requests:,}"],
        ["answers with a known cost", f"{coverage.n_closed:,}"],
        ["of their cost in doubt, at its worst case", money(coverage.in_doubt_nano_usd / 1e9)],
        ["answers graded", f"{coverage.n_graded:,} of {coverage.n_answered:,}"],
        ["answers that belong to a team", f"{coverage.n_tagged:,}"],
        ["picked by chance, so that arms compare", f"{coverage.n_random:,}"],
    ],
)

# %% [markdown]
# ## Who asks, and how hard
#
# Parts add up to the whole; a team that is not named is a part too.


# %%
def line(part):
    right, each = part.accuracy, part.usd_per_correct
    return [
        part.name or "(none)",
        f"{part.n_closed:,}",
        money((part.cost_nano_usd or 0) / 1e9),
        "not enough grades"
        if right is None
        else f"{percent(right.value)} ({percent(right.low)} to {percent(right.high)})",
        "-" if each is None else money(each.value),
    ]


names = ["answers", "spent", "accuracy (95 %)", "a right answer"]
for dimension in ("team", "difficulty"):
    assert sum(part.cost_nano_usd or 0 for part in facts.by[dimension]) == (
        facts.whole.cost_nano_usd
    )
Table(["team", *names], [line(part) for part in (*facts.by["team"], facts.whole)])

# %%
Table(["predicted difficulty", *names], [line(part) for part in facts.by["difficulty"]])

# %% [markdown]
# ## What it will cost if nothing changes
#
# Level, weekday and trend of complete days, with an interval from how wrong it was before. Below 14 days it refuses.

# %%
spent = (facts.whole.cost_nano_usd or 0) / 1e9
outlook = facts.forecast
if hasattr(outlook, "reason"):
    coming = spent / days_back * days_ahead
    print(f"no forecast: {outlook.reason}; going on as before would be {money(coming)}")
else:
    total = outlook.total_usd
    coming = total.value - spent
    error = outlook.backtest_error
    print(
        f"the next {days_ahead} days: {money(coming)} "
        f"({money(total.low - spent)} to {money(total.high - spent)})"
    )
    if error is not None:
        print(f"the last {outlook.backtest_days} days, forecast before them: {error:+.1%} off")
coming *= volume_factor * price_factor

# %% [markdown]
# ## What a budget buys
#
# Each point is an arm, measured by random picks on all questions; between two of them lies their mixture. The policy can do better,
# as it gives each question the arm that suits it: the curve is what even a policy that looks at no question reaches. The
# lower line is each arm's one-sided 95 % bound.

# %%
points = [
    Point(p.cost_usd, p.accuracy, max(0.0, p.accuracy - 1.645 * p.accuracy_error))
    for p in facts.frontier
]
assert points, "too few random picks and grades: let the policy explore, and grade more answers"
curve = BudgetCurve.of(points).repriced(price_factor)
questions = facts.whole.n_closed / days_back * days_ahead * volume_factor
amount = coming if budget_usd is None else budget_usd
least, most = curve.least_usd * questions, curve.corners[-1].cost_usd * questions
steps = sorted(
    {*(least + (most - least) * i / 40 for i in range(41)), *([amount] * (amount > least))}
)
bought = [(usd, curve.at(usd / questions)) for usd in steps]
bought = [(usd, point) for usd, point in bought if point is not None]
chart(
    "bought",
    {
        "title": "Right answers by budget",
        "description": f"From {money(least)} to {money(most)} for {questions:,.0f} questions: "
        f"{percent(bought[0][1].accuracy)} to {percent(bought[-1][1].accuracy)} right.",
        "budget_usd": [usd for usd, _ in bought],
        "accuracy": [point.accuracy for _, point in bought],
        "low": [point.bound for _, point in bought],
        "chosen_usd": amount,
    },
)

# %%
scenarios = {
    "as planned": (1.0, 1.0),
    "a fifth more questions": (1.2, 1.0),
    "prices a fifth higher": (1.0, 1.2),
    "both": (1.2, 1.2),
}
rows = []
for name, (volume, price) in scenarios.items():
    there = curve.repriced(price).at(amount / (questions * volume))
    needed = curve.repriced(price).cost_of(target)
    rows.append(
        [
            name,
            money(amount),
            "too little" if there is None else percent(there.accuracy),
            "too little" if there is None else percent(there.bound),
            "out of reach" if needed is None else money(needed * questions * volume),
        ]
    )
Table(["scenario", "budget", "right", "at least", f"budget for {percent(target, 0)}"], rows)

# %% [markdown]
# ## Sharing it out
#
# First what was promised, then step by step to whoever's next right answer is cheapest. All share one curve here, so that teams
# without a promise are one and share by their questions.

# %%
asking = {part.name or "(none)": part.n_closed for part in facts.by["team"] if part.n_closed}
scale = questions / sum(asking.values())
others = sum(n for team, n in asking.items() if team not in promised)
demands = {
    team: Demand(n * scale, curve, promised[team]) for team, n in asking.items() if team in promised
}
if others:
    demands["(the others)"] = Demand(others * scale, curve)
try:
    shares = allocate(amount, demands)
except Shortfall as short:
    assert short.team is None, f"{short.team} was promised more than the best arm reaches"
    shares = allocate(short.needed_usd, demands)
    print(f"{money(amount)} does not pay for what is asked; that takes {money(short.needed_usd)}")
shared = sum(share.usd for share in shares.values())
budgets, rows = {}, []
for team, n in asking.items():
    share = shares[team if team in promised else "(the others)"]
    budgets[team] = share.usd * (1.0 if team in promised else n / others)
    right = [percent(share.accuracy), percent(share.low)]
    rows.append([team, f"{n * scale:,.0f}", money(budgets[team]), *right])
assert abs(sum(budgets.values()) - shared) < 1e-6 * shared, "nothing is shared out twice"
Table(["team", "questions", "share", "right", "at least"], rows)

# %% [markdown]
# ## Putting it to work
#
# These commands put the limits in force at once, for a calendar month. Nothing is set from here.

# %%
for team, usd in budgets.items():
    if team != "(none)":
        print(f"rheostat budget set team:{team} --usd {usd:.2f} --period month")
whole = sum(budgets.values())
print(f"rheostat budget set organisation --usd {whole:.2f} --period month")
ledger.close()
