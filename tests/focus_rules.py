"""The rules of FOCUS for a Cost and Usage file, held against the text of a CSV.

Written from the specification, apart from the code that writes the file: columns, types, allowed
values, what must be null together, prices times quantities, periods.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

Line = dict[str, str]

MANDATORY = {
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ServiceCategory",
    "ServiceName",
}
PROVIDERS = {
    "1.2": {"ProviderName", "PublisherName"},
    "1.4": {"HostProviderName", "ServiceProviderName"},
}
OTHERS = {
    "ChargeFrequency",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedUnitPrice",
    "InvoiceId",
    "ListUnitPrice",
    "PricingCategory",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceDetails",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "Tags",
}
NEVER_NULL = MANDATORY - {"ChargeClass", "PricingQuantity", "PricingUnit"}
COSTS = ("BilledCost", "ContractedCost", "EffectiveCost", "ListCost")
DECIMALS = (
    *COSTS,
    *("ConsumedQuantity", "ContractedUnitPrice", "ListUnitPrice", "PricingQuantity"),
)
TIMES = ("BillingPeriodEnd", "BillingPeriodStart", "ChargePeriodEnd", "ChargePeriodStart")
ALLOWED = {
    "BillingCurrency": {"USD"},
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {"", "Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based", ""},
    "PricingCategory": {"Standard", "Dynamic", "Committed", "Other", ""},
    "ServiceCategory": {"AI and Machine Learning"},
    "ServiceSubcategory": {"Generative AI"},
}
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")
UNIT = re.compile(r"(\d+ )?[A-Z][a-z]+s")
TOGETHER = [
    ("PricingQuantity", "PricingUnit"),
    ("ConsumedQuantity", "ConsumedUnit"),
    ("SubAccountId", "SubAccountName"),
    ("SkuId", "SkuPriceId"),
    ("ListUnitPrice", "SkuPriceId"),
    ("ContractedUnitPrice", "SkuPriceId"),
    ("PricingQuantity", "SkuPriceId"),
    ("PricingCategory", "SkuPriceId"),
    ("SkuMeter", "SkuId"),
]
"""Null is where the other is null."""


def broken_rules(header: list[str], lines: list[Line], version: str) -> Counter[str]:
    """Tell which rules are broken, and by how many rows."""
    found: Counter[str] = Counter()
    focus = [name for name in header if not name.startswith("x_")]
    required = MANDATORY | PROVIDERS[version]
    found.update(f"missing column {name}" for name in required - set(focus))
    found.update(f"no column of {version}: {name}" for name in set(focus) - required - OTHERS)
    if header[: len(focus)] != focus:
        found["custom columns come last"] += 1
    for line in lines:
        found.update(set(_broken_by(line, required)))
    return found


def _broken_by(line: Line, required: set[str]) -> list[str]:
    broken = [f"{n} is null" for n in NEVER_NULL | (required - MANDATORY) if not line[n]]
    broken += [f"{n} is {line[n]}" for n, values in ALLOWED.items() if line[n] not in values]
    broken += [f"{n} is no number" for n in DECIMALS if not _is_number(line[n])]
    broken += [f"{n} has no form" for n in ("PricingUnit", "ConsumedUnit") if not _is_unit(line[n])]
    broken += [
        f"{one} and {other} are not null together"
        for one, other in TOGETHER
        if bool(line[one]) != bool(line[other])
    ]
    return [*broken, *_charge(line), *_prices(line), *_periods(line), *_details(line)]


def _is_number(text: str) -> bool:
    return not text or bool(NUMBER.fullmatch(text))


def _is_unit(text: str) -> bool:
    return not text or bool(UNIT.fullmatch(text))


def _charge(line: Line) -> list[str]:
    """Hold a row against what its category asks for, unless it corrects an earlier bill."""
    broken = []
    category = line["ChargeCategory"]
    if not line["ChargeClass"] and category in {"Usage", "Purchase"} and not line["SkuPriceId"]:
        broken.append(f"{category} without a price")
    if category == "Usage" and not line["ChargeClass"] and not line["ConsumedQuantity"]:
        broken.append("usage without a consumed quantity")
    if category != "Usage" and line["ConsumedQuantity"]:
        broken.append(f"{category} with a consumed quantity")
    if category == "Purchase" and line["ChargeFrequency"] == "Usage-Based":
        broken.append("a purchase is not usage-based")
    return broken


def _prices(line: Line) -> list[str]:
    """Hold costs against unit price x quantity, to the last digit, or else what is billed."""
    broken = []
    for cost, price in (("ListCost", "ListUnitPrice"), ("ContractedCost", "ContractedUnitPrice")):
        if not line[price]:
            if line[cost] != line["BilledCost"]:
                broken.append(f"{cost} is not what is billed")
            continue
        if Decimal(line[price]) < 0:
            broken.append(f"{price} is below 0")
        if Decimal(line[price]) * Decimal(line["PricingQuantity"]) != Decimal(line[cost]):
            broken.append(f"{price} x PricingQuantity is not {cost}")
    return broken


def _periods(line: Line) -> list[str]:
    times = {name: datetime.fromisoformat(line[name]) for name in TIMES}
    broken = [f"{n} is not in UTC" for n in TIMES if not line[n].endswith("Z")]
    start, end = times["BillingPeriodStart"], times["BillingPeriodEnd"]
    after = datetime(start.year + start.month // 12, start.month % 12 + 1, 1, tzinfo=UTC)
    if (start.day, start.hour, start.minute, start.second) != (1, 0, 0, 0) or end != after:
        broken.append("the billing period is no month")
    if times["ChargePeriodStart"] >= times["ChargePeriodEnd"]:
        broken.append("the charge period is empty")
    inside = start <= times["ChargePeriodStart"] and times["ChargePeriodEnd"] <= end
    if not inside and not line["ChargeClass"]:
        broken.append("charged outside the billing period")
    if line["ChargeClass"] and times["ChargePeriodStart"] >= start:
        broken.append("a correction of the period itself")
    return broken


def _details(line: Line) -> list[str]:
    broken = [
        f"{name} is no object"
        for name in ("Tags", "SkuPriceDetails")
        if line[name] and not isinstance(json.loads(line[name]), dict)
    ]
    if line["SkuPriceDetails"] and any(
        not key.startswith("x_") for key in json.loads(line["SkuPriceDetails"])
    ):
        broken.append("a property that the version does not know needs x_")
    return broken
