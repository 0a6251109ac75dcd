# %% [markdown]
# # Savings and trust audit
#
# Would an auditor accept the report? Each section tries to make a headline figure fall over: the bill, the baseline, the graders, the
# sampling. What cannot be checked is said at the end.

# %% tags=["parameters"]
ledger_url = "sqlite:///simulated.db"
days_back = 30
target = 0.75
# of the graders, from answers graded by people too: share of right ones called right, of wrong ones wrong
sensitivity, specificity = 0.97, 0.95
provider_bills_usd = {}  # by provider, as billed for this time: {"openai": 123.45}

# %%
from datetime import timedelta
from decimal import Decimal

from sqlalchemy import func, select

from cost_models.accuracy import GradeSums, accuracy, against_target
from cost_models.focus import Mapping, Version
from cost_models.types import Arm
from router.reports.desk import Table, chart, open_desk
from router.reports.words import money, percent, points, signed
from storage.charges import DAY, read_charges
from storage.facts import Asked, read_facts
from storage.models import EntryRow, OutcomeRow
from storage.reliability import read_reliability
from storage.reports import parts, totals

ledger, now = open_desk(ledger_url)
since = now - timedelta(days=days_back)
facts = ledger.read(lambda session: read_facts(session, Asked(since, now, target=target)))
if facts.simulated:
    print("SIMULATED: requests, answers and money are made up.")

# %% [markdown]
# ## One sum, however it is cut
#
# The report, its parts by every dimension, and the export for finance are one figure to the nano-USD.

# %%
whole = ledger.read(lambda session: totals(session, since, now)).cost_nano_usd
charges = ledger.read(lambda session: read_charges(session, since, now, DAY))
exported = sum(
    (row["BilledCost"] for row in Mapping(Version.V1_4, lambda *_: None).rows(charges)), Decimal(0)
)
sums = {"the report": whole, "the export, as FOCUS": int(exported * 10**9)}
for dimension in ("model", "provider", "tenant", "team", "role", "status"):
    found = ledger.read(lambda session, by=dimension: parts(session, by, since, now))
    sums[f"calls by {dimension}"] = sum(part.cost_nano_usd for part in found)
sums["days"] = sum(day.cost_nano_usd for day in facts.days)
assert set(sums.values()) == {whole}, sums
Table(["cut", "nano-USD"], [[name, f"{amount:,}"] for name, amount in sums.items()])

# %% [markdown]
# ## Against the bills
#
# By provider. Without a bill a line is *not reconciled*: nobody but this ledger says so. `rheostat reconcile` takes a bill in and books
# the difference.

# %%
corrected = {}
for each in charges.corrections:
    name = each.to.provider or "(not recorded)"
    corrected[name] = corrected.get(name, 0) + each.amount_nano_usd
rows = []
for provider, amount in facts.providers.items():
    bill = provider_bills_usd.get(provider)
    rows.append(
        [
            provider or "(not recorded)",
            money(amount / 1e9),
            signed(corrected.get(provider or "(not recorded)", 0) / 1e9),
            "not reconciled" if bill is None else money(bill),
            "-" if bill is None else signed(amount / 1e9 - bill),
        ]
    )
Table(["provider", "ledger", "of it corrected later", "bill", "ledger less bill"], rows)

# %%
coverage = facts.coverage
Table(
    ["what is less than sure", "how much"],
    [
        ["charged at its worst case, in doubt", money(coverage.in_doubt_nano_usd / 1e9)],
        ["answers in doubt", f"{coverage.n_in_doubt:,} of {coverage.n_closed:,}"],
        ["calls whose usage is estimated", f"{coverage.n_estimated:,} of {coverage.n_calls:,}"],
        ["answers still open, without a cost", f"{coverage.n_open:,}"],
    ],
)

# %% [markdown]
# ## The counterfactual, two ways
#
# *Measured* weighs random picks of the largest model; *estimated* takes all of its picks, as if by chance. Where the two disagree, the
# policy's choice explains it, and the measured one counts. Cheaper is not saved where it is worse: the difference in
# accuracy stands beside it.


# %%
def tier(name, found):
    """Make a line of a tier of savings; a refusal gives its reason."""
    if hasattr(found, "reason"):
        return [name, found.reason, "-", "-", "-"]
    saved, share, worse = found.saved_usd, found.saved_share, found.accuracy_difference
    return [
        name,
        f"{signed(saved.value)} ({signed(saved.low)} to {signed(saved.high)})",
        f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})",
        "not known"
        if worse is None
        else f"{points(worse.value)} ({points(worse.low)} to {points(worse.high)})",
        f"{found.n_picks:,}",
    ]


COLUMNS = [
    "saved (95 %)",
    "share of what it would have cost",
    "accuracy, difference",
    "picks of it",
]
print(f"against every question once by {facts.baseline}")
Table(
    ["tier", *COLUMNS],
    [tier("measured", facts.savings), tier("estimated", facts.estimated_savings)],
)

# %% [markdown]
# ## Another baseline
#
# "Saved against the dearest model" is easy. Against a middling one the figure is smaller, and against the cheapest one it should
# be a loss: what routing costs more than that is what accuracy was bought with.

# %%
rows = []
for name in sorted(part.name for part in facts.by["arm"] if part.name.endswith("|direct")):
    asked = Asked(since, now, baseline=Arm.parse(name))
    other = ledger.read(lambda session, asked=asked: read_facts(session, asked))
    rows.append(tier(name, other.savings))
    if not hasattr(other.savings, "reason"):
        assert other.savings.saved_usd.value <= other.savings.counterfactual_usd.value
Table(["baseline", *COLUMNS], rows)

# %% [markdown]
# ## Graders are wrong too
#
# If graders call a share of right answers right (sensitivity) and of wrong ones wrong (specificity), the true accuracy is
# (seen + specificity - 1) / (sensitivity + specificity - 1) (Rogan and Gladen 1978). The rates come from answers that several
# graders judged; without any, they are the parameters above.

# %%
graders = ledger.read(
    lambda session: session.execute(
        select(OutcomeRow.grader, func.count(OutcomeRow.id))
        .where(OutcomeRow.recorded_at >= since)
        .group_by(OutcomeRow.grader)
        .order_by(OutcomeRow.grader)
    ).all()
)
print("grades by:", ", ".join(f"{name} ({n:,})" for name, n in graders) or "nobody")
for judge in ledger.read(lambda session: read_reliability(session, since, now)):
    print(f"{judge.judge}: sensitivity {judge.sensitivity}, specificity {judge.specificity}")
informed = sensitivity + specificity - 1
assert informed > 0, "graders that are no better than a coin say nothing"


def true_share(seen):
    """Correct a share of right answers for the graders' errors, within [0, 1]."""
    return min(1.0, max(0.0, (seen + specificity - 1) / informed))


right, rows = facts.whole.accuracy, []
if right is not None:
    rows = [
        [
            name,
            percent(change(right.value)),
            percent(change(right.low)),
            percent(change(right.high)),
        ]
        for name, change in (("as graded", float), ("corrected", true_share))
    ]
    print(f"standing to {percent(target, 0)}: {against_target(facts.whole.grades, target)}")
Table(["accuracy", "value", "low", "high"], rows)

# %% [markdown]
# ## What if the sample is ignored
#
# Hard answers are graded more often here where that was asked for. Taking grades as if all answers were as likely to be
# graded shows how much the weights do.

# %%
grades = facts.whole.grades
plain = ledger.read(
    lambda session: session.scalars(
        select(OutcomeRow.quality)
        .join(EntryRow, EntryRow.id == OutcomeRow.entry_id)
        .where(EntryRow.started_at >= since, EntryRow.started_at < now)
    ).all()
)
unweighted = accuracy(GradeSums.of(plain, [1.0] * len(plain))) if plain else None
Table(
    ["accuracy", "value", "interval", "grades", "worth so many"],
    [
        [name, percent(e.value), f"{percent(e.low)} to {percent(e.high)}", f"{e.n:,}", worth]
        for name, e, worth in (
            ("weighed by the sample", right, f"{grades.trials:,.0f}"),
            ("as if all were picked alike", unweighted, f"{len(plain):,}"),
        )
        if e is not None
    ],
)

# %% [markdown]
# ## Where the compute went

# %%
amounts = {name: amount for name, amount in facts.compute.items() if amount}
assert sum(facts.compute.values()) == whole
chart(
    "compute",
    {
        "title": "What the spend was for",
        "description": ", ".join(f"{n} {money(a / 1e9)}" for n, a in amounts.items()),
        "parts": [
            {"name": name, "nano_usd": amount, "share": amount / whole}
            for name, amount in sorted(amounts.items(), key=lambda item: -item[1])
        ],
    },
)

# %% [markdown]
# ## What is left out
#
# - **Reasoning traces were not audited**: no probe asked whether they say what decided.
# - Imported history was not paid here, and is in no figure.
# - Refused requests cost nothing and have no answer; what they would have been worth is not known.
# - Answers that could never be graded are taken to be as those that could.
# - The time of people is in no figure.

# %%
Table(
    ["left out", "how many"],
    [
        ["imported answers", f"{facts.n_imported:,}"],
        ["refused requests", f"{facts.n_refused:,}"],
        ["failed answers (their cost counts)", f"{facts.whole.n_failed:,}"],
        ["answers without a grade", f"{coverage.n_answered - coverage.n_graded:,}"],
    ],
)

# %%
ledger.close()
