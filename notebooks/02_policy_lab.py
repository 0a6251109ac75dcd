# %% [markdown]
# # Policy lab
#
# Which policy should decide? What would another one have reached on the questions that were asked, what is the next right answer worth,
# and how long must a canary run to tell?

# %% tags=["parameters"]
ledger_url = "sqlite:///simulated.db"
days_back = 40
target = 0.75
willing_usd = 0.01  # what one more right answer is worth
canary_share = 0.1  # of the questions, for the new policy
margin = 0.05  # loss of accuracy that the canary must be able to see

# %%
from datetime import timedelta

import numpy as np
from sqlalchemy import select

from cost_models.types import Arm
from policies.offpolicy import Log, snips
from policies.sequential import bounded_mean
from router.reports.desk import Table, chart, open_desk
from router.reports.document import report_document
from router.reports.periods import ReportPeriod
from router.reports.reading import ReportQuestion, read_material
from router.reports.words import money, money_range, percent
from storage.models import EntryRow
from storage.outcomes import entry_quality
from storage.policies import kept_policies, policy_in_service
from storage.rollups import difficulty_bin
from storage.slices import bin_name

ledger, now = open_desk(ledger_url)
since = now - timedelta(days=days_back)
period = ReportPeriod(f"the last {days_back} days", None, since, now)
question = ReportQuestion(period, now, (since - (now - since), since), target=target)
material = ledger.read(lambda session: read_material(session, question))
facts, document = material.facts, report_document(material)
if facts.simulated:
    print("SIMULATED: requests, answers and money are made up.")

# %% [markdown]
# ## What is kept
#
# Policies fitted by `rheostat retrain` and `fit`, with what their own cross-validation said. Studies of Optuna are in the same database:
# `optuna-dashboard` shows them.

# %%
kept = ledger.read(kept_policies)
serving = ledger.read(policy_in_service)
Table(
    ["policy", "fitted", "serves"],
    [
        [
            policy.version,
            f"{policy.created_at:%Y-%m-%d %H:%M}",
            "yes" if serving is not None and serving.version == policy.version else "",
        ]
        for policy in kept
    ]
    or [["none is kept in this ledger", "", ""]],
)

# %% [markdown]
# ## The frontier
#
# Each arm on all questions with a choice, by random picks. The diamond is what was served: above the line, the policy is worth more
# than any mixture that looks at no question.

# %%
drawing = document["charts"]["frontier"]
chart("frontier", drawing) if drawing["empty"] is None else print(drawing["empty"])

# %% [markdown]
# ## Is the next right answer worth it?
#
# Along the frontier, against what one is worth to you. Where the interval is open, the data do not tell the two arms apart.

# %%
rows = []
for step in facts.marginal:
    price = step.usd_per_correct
    verdict = (
        "yes" if price.high <= willing_usd else "no" if price.low > willing_usd else "not told"
    )
    rows.append([step.start, step.end, money(price.value), money_range(price.to_dict()), verdict])
Table(["from", "to", "one more right answer", "95 %", f"worth it at {money(willing_usd)}"], rows)

# %% [markdown]
# ## Another policy, on the questions of the past
#
# Self-normalised importance sampling over graded decisions: each weighs 1 / (its propensity times the probability that it was graded).
# A policy by difficulty is made from the first half of the time and judged on the second, so that it cannot know its own
# exam. `worth` is how many direct observations the log amounts to: below about 50, look away.

# %%
quality = entry_quality(EntryRow.started_at >= since, EntryRow.started_at < now)
log = ledger.read(
    lambda session: session.execute(
        select(
            EntryRow.model,
            EntryRow.strategy,
            difficulty_bin(),
            EntryRow.propensity,
            EntryRow.cost_nano_usd,
            quality.c.quality,
            quality.c.inclusion,
            EntryRow.started_at,
        )
        .join(quality, quality.c.entry_id == EntryRow.id)
        .where(EntryRow.propensity < 1)
        .order_by(EntryRow.id)
    ).all()
)
assert log, "no graded decision was made with a choice: let the policy explore, and grade answers"
arms = sorted({Arm(row[0], row[1]) for row in log})
number = np.array([arms.index(Arm(row[0], row[1])) for row in log])
bin_of = np.array([int(row[2]) for row in log])
weight = np.array([row[3] * row[6] for row in log])
cost = np.array([row[4] / 1e9 for row in log])
right = np.array([row[5] for row in log])
late = np.array([row[7] >= since + (now - since) / 2 for row in log])


def value(choice, reward):
    """Estimate the mean reward of choosing arms by number, on the second half."""
    probability = np.zeros((int(late.sum()), len(arms)))
    probability[np.arange(len(probability)), choice[late]] = 1.0
    return snips(Log(number[late], weight[late], reward[late]), probability)


def shrunk(arm, part):
    """Mean quality of an arm in a bin on the first half, drawn to the arm's own by ten answers."""
    early = ~late & (number == arm)
    inside = early & (bin_of == part)
    whole = np.average(right[early], weights=1 / weight[early]) if early.any() else 0.0
    seen = np.average(right[inside], weights=1 / weight[inside]) if inside.any() else 0.0
    return (inside.sum() * seen + 10 * whole) / (inside.sum() + 10)


prices = np.array([cost[number == arm].mean() for arm in range(len(arms))])
parts = sorted(set(bin_of.tolist()))
table = {
    part: int(np.argmax([shrunk(a, part) - prices[a] / willing_usd for a in range(len(arms))]))
    for part in parts
}
choices = {str(arm): np.full(len(log), i) for i, arm in enumerate(arms)}
choices["by difficulty"] = np.array([table[part] for part in bin_of.tolist()])
rows = []
for name, choice in choices.items():
    good, spent = value(choice, right), value(choice, cost)
    assert np.isnan(good.estimate) or 0.0 <= good.estimate <= 1.0
    known = good.effective_n >= 3
    rows.append(
        [
            name,
            percent(good.estimate) if known else "not known",
            f"{percent(max(0.0, good.low))} to {percent(min(1.0, good.high))}" if known else "-",
            money(spent.estimate) if known else "-",
            f"{good.effective_n:.0f}",
        ]
    )
served = facts.whole.accuracy
rows.append(
    [
        "as served (whole time)",
        "not known" if served is None else percent(served.value),
        "-" if served is None else f"{percent(served.low)} to {percent(served.high)}",
        money((facts.whole.cost_nano_usd or 0) / 1e9 / max(1, facts.whole.n_closed)),
        f"{facts.whole.grades.n:,}",
    ]
)
Table(["policy", "right", "95 %", "USD a question", "worth"], rows)

# %% [markdown]
# ## What it would do
#
# The policy by difficulty, bin by bin: the arm with the best predicted quality less its price at what a right answer is worth.

# %%
Table(
    ["predicted difficulty", "arm", "right, as predicted", "USD a question"],
    [
        [bin_name(part), str(arms[a]), percent(shrunk(a, part)), money(prices[a])]
        for part, a in table.items()
    ],
)

# %% [markdown]
# ## The canary
#
# The canary may be looked at any day without fooling oneself: its interval holds at all times at once (a confidence sequence). So many graded
# answers are needed until it is narrower than the loss that must be seen.

# %%
rate = facts.whole.accuracy.value if facts.whole.accuracy is not None else target
draws = np.random.default_rng(0).random(40_000) < rate
sizes = [2**i for i in range(5, 16)]
needed = next(
    (n for n in sizes if np.ptp(bounded_mean(draws[:n].astype(float), 0.05)) / 2 <= margin), None
)
graded_a_day = facts.coverage.n_graded / days_back * canary_share
if needed is None or graded_a_day == 0:
    print("no number of answers within reach tells such a loss; grade more, or allow a larger one")
else:
    print(
        f"about {needed:,} graded answers of the canary, {needed / graded_a_day:,.0f} days at "
        f"today's grading ({graded_a_day:.1f} of its answers a day)"
    )
version = kept[0].version if kept else "POLICY"
print(f"rheostat policy canary {version} --share {canary_share:g} --max-loss {margin:g}")
print(f"rheostat policy promote {version}")
ledger.close()
