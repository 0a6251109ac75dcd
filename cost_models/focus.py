"""Charges as rows of FOCUS, the FinOps Open Cost and Usage Specification, versions 1.2 and 1.4.

Each meter of a charge is one Usage row at its unit price, whose costs are price times quantity,
exact. What was charged beyond that (fractions of a nano-USD, calls in doubt at their worst case,
models of which no price is known) is an Adjustment row, so that the billed costs of all rows add
up to what the ledger charged. Source: focus.finops.org, Cost and Usage dataset.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from cost_models.itemising import itemise
from cost_models.money import to_usd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date

    from cost_models.charges import ChargedTo, Charges, CorrectionCharge, GrantCharge, UsageCharge
    from cost_models.itemising import Item
    from cost_models.pricing import Price

    PriceOf: TypeAlias = Callable[[str, str, date], Price | None]

Value: TypeAlias = str | Decimal | datetime | None
Row: TypeAlias = dict[str, Value]

ZERO = Decimal(0)
DIGITS = 60
"""Of a product, so that none is rounded."""
UNKNOWN = "not recorded"
OWN = "Rheostat"
LATE_MONTH = timedelta(days=32)


class Version(StrEnum):
    """Versions of FOCUS that rows can be made for."""

    V1_2 = "1.2"
    V1_4 = "1.4"


TEXT = (
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ConsumedUnit",
    "InvoiceId",
    "InvoiceIssuerName",
    "PricingCategory",
    "PricingUnit",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceDetails",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "Tags",
)
NUMBERS = (
    "BilledCost",
    "ConsumedQuantity",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "ListCost",
    "ListUnitPrice",
    "PricingQuantity",
)
TIMES = ("BillingPeriodEnd", "BillingPeriodStart", "ChargePeriodEnd", "ChargePeriodStart")
PROVIDERS = {
    Version.V1_2: ("ProviderName", "PublisherName"),
    Version.V1_4: ("HostProviderName", "ServiceProviderName"),
}
OWN_TEXT = (
    "x_Tenant",
    "x_Strategy",
    "x_CallRole",
    "x_EntryStatus",
    "x_CostSource",
    "x_CorrectionKind",
)
OWN_NUMBERS = ("x_ConsumedTokens", "x_ReasoningTokens")


def columns(version: Version) -> dict[str, type[str | Decimal | datetime]]:
    """Give the columns of a version with what they hold: FOCUS ones by name, then our own."""
    kinds: dict[str, type[str | Decimal | datetime]] = {
        **dict.fromkeys((*TEXT, *PROVIDERS[version]), str),
        **dict.fromkeys(NUMBERS, Decimal),
        **dict.fromkeys(TIMES, datetime),
    }
    own: dict[str, type[str | Decimal | datetime]] = dict.fromkeys(OWN_TEXT, str)
    return dict(sorted(kinds.items())) | own | dict.fromkeys(OWN_NUMBERS, Decimal)


@dataclass(frozen=True, slots=True)
class Mapping:
    """How charges become rows; ``price_of`` gives a price by model, provider and day (UTC).

    None where that is not known: what is charged for is one row without a unit price then.
    """

    version: Version
    price_of: PriceOf

    def rows(self, charges: Charges) -> list[Row]:
        """Give the rows; their BilledCost adds up to usage and corrections, in USD."""
        empty: Row = dict.fromkeys(columns(self.version))
        account: Row = {
            "BillingAccountId": charges.ledger_id,
            "BillingAccountName": f"Rheostat ledger {charges.ledger_id}",
            "BillingCurrency": "USD",
            "ServiceCategory": "AI and Machine Learning",
            "ServiceSubcategory": "Generative AI",
        }
        with localcontext() as exact:
            exact.prec = DIGITS
            found = [row for charge in charges.usage for row in self._usage(charge)]
            found += [self._correction(each) for each in charges.corrections]
            found += [self._grant(each) for each in charges.grants]
        return [empty | account | row for row in found]

    def _usage(self, charge: UsageCharge) -> Iterator[Row]:
        to, usage = charge.to, charge.usage
        common = self._provider(to.provider) | _period(charge.start, charge.end) | _charged(to)
        price = self.price_of(to.model, to.provider, charge.start.date())
        items = [] if price is None else itemise(price, usage)
        for item in items:
            yield common | _item(to, item, usage.reasoning_tokens)
        rest = to_usd(charge.cost_nano_usd) - sum((item.cost_usd for item in items), ZERO)
        if rest or price is None:
            source = _source_of(rest, charge, itemised=price is not None)
            tokens = usage.prompt_tokens + usage.completion_tokens if price is None else None
            yield (
                common
                | _flat(rest)
                | {
                    "ChargeCategory": "Adjustment",
                    "ChargeDescription": f"{to.model}: {REASONS[source]}",
                    "x_CostSource": source,
                    "x_ConsumedTokens": None if tokens is None else Decimal(tokens),
                }
            )

    def _correction(self, charge: CorrectionCharge) -> Row:
        """Make a row of what was corrected: later than its month it is of the class Correction."""
        billed = _period(charge.start, charge.end)
        late = charge.month != billed["BillingPeriodStart"]
        if late:
            billed |= _month(charge.month)
        amount = to_usd(charge.amount_nano_usd)
        return (
            self._provider(charge.to.provider)
            | billed
            | _charged(charge.to)
            | _flat(amount)
            | {
                "ChargeCategory": "Usage" if late else "Adjustment",
                "ChargeClass": "Correction" if late else None,
                "ChargeDescription": f"{charge.to.model}: {CORRECTED[charge.kind]}",
                "x_CostSource": "correction",
                "x_CorrectionKind": charge.kind,
            }
        )

    def _grant(self, grant: GrantCharge) -> Row:
        """Make a row of money that was put into a prepaid budget; no provider bills it."""
        start = grant.granted_at.replace(minute=0, second=0, microsecond=0)
        amount = to_usd(grant.amount_nano_usd)
        sku = f"{OWN}/prepaid/{grant.scope}"
        reference = "" if grant.reference is None else f", {grant.reference}"
        verb = "granted to" if amount > 0 else "taken back from"
        return (
            self._provider(OWN)
            | _period(start, start + timedelta(hours=1))
            | {
                "BilledCost": ZERO,
                "EffectiveCost": ZERO,
                "ListCost": amount,
                "ContractedCost": amount,
                "ListUnitPrice": abs(amount),
                "ContractedUnitPrice": abs(amount),
                "PricingQuantity": Decimal(1 if amount > 0 else -1),
                "PricingUnit": "Grants",
                "PricingCategory": "Standard",
                "SkuId": sku,
                "SkuPriceId": sku,
                "SkuMeter": "Prepaid Grants",
                "ChargeCategory": "Purchase",
                "ChargeFrequency": "One-Time",
                "ChargeDescription": f"{verb} the prepaid budget of {grant.scope}{reference}",
                "x_CostSource": "grant",
            }
        )

    def _provider(self, name: str) -> Row:
        known = name or UNKNOWN
        return {
            "InvoiceIssuerName": known,
            "ServiceName": "Prepaid budgets" if name == OWN else "Language models",
            **dict.fromkeys(PROVIDERS[self.version], known),
        }


REASONS = {
    "rounding": "each call is rounded up to whole nano-USD",
    "not_at_list_price": "charged beside tokens at the listed price, as calls in doubt are",
    "not_itemised": "its price on that day is not known here",
    "lost": "held when a process died, charged as its worst case",
}
CORRECTED = {
    "reprice": "corrected by the price book",
    "reconcile": "corrected by the provider's bill",
}


def _source_of(rest: Decimal, charge: UsageCharge, *, itemised: bool) -> str:
    if charge.to.role == "lost":
        return "lost"
    if not itemised:
        return "not_itemised"
    # each call is less than a nano-USD off, and machine time by its places some of them
    return "rounding" if abs(rest) <= to_usd(2 * charge.n_calls) else "not_at_list_price"


def _item(to: ChargedTo, item: Item, reasoning: int) -> Row:
    cost, price = item.cost_usd, item.unit_price_usd
    sku = f"{to.provider or UNKNOWN}/{to.model}/{item.meter.lower().replace(' ', '-')}"
    details = {"x_ModelId": to.model}
    if item.direction is not None:
        details["x_TokenDirection"] = item.direction
    if item.cache is not None:
        details["x_TokenCacheAction"] = item.cache
    written = item.direction == "Output"
    return {
        **dict.fromkeys(("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"), cost),
        "ListUnitPrice": price,
        "ContractedUnitPrice": price,
        "PricingQuantity": item.quantity,
        "PricingUnit": item.unit.priced,
        "PricingCategory": "Standard",
        "ConsumedQuantity": item.consumed,
        "ConsumedUnit": item.unit.consumed,
        "SkuId": sku,
        "SkuPriceId": sku,
        "SkuMeter": item.meter,
        "SkuPriceDetails": json.dumps(details, ensure_ascii=False),
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        "ChargeDescription": f"{to.model}: {item.meter.lower()}",
        "x_CostSource": "priced",
        "x_ReasoningTokens": Decimal(reasoning) if written else None,
    }


def _flat(amount_usd: Decimal) -> Row:
    """Give the costs of a charge without a unit price."""
    names = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")
    return {**dict.fromkeys(names, amount_usd), "ChargeFrequency": "One-Time"}


def _charged(to: ChargedTo) -> Row:
    tags = {
        "rheostat:tenant": to.tenant,
        "rheostat:team": to.team,
        "rheostat:strategy": to.strategy,
        "rheostat:role": to.role,
    }
    return {
        "ResourceId": to.model,
        "ResourceName": to.model,
        "ResourceType": "Model",
        "SubAccountId": to.team or None,
        "SubAccountName": to.team or None,
        "Tags": json.dumps({k: v for k, v in tags.items() if v}, ensure_ascii=False),
        "x_Tenant": to.tenant,
        "x_Strategy": to.strategy,
        "x_CallRole": to.role,
        "x_EntryStatus": to.status,
    }


def _period(start: datetime, end: datetime) -> Row:
    return {"ChargePeriodStart": start, "ChargePeriodEnd": end} | _month(start)


def _month(at: datetime) -> Row:
    """Give the calendar month, in UTC, as the billing period."""
    start = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    end = (start + LATE_MONTH).replace(day=1)
    return {"BillingPeriodStart": start, "BillingPeriodEnd": end}
