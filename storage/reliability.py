"""How far each judge of a cascade can be trusted, measured on graded requests.

The grade of a request is that of the answer that was given. A stage with the same answer has the
same grade; one with another answer was wrong where the given one was right. What remains is not
counted: where the given answer was wrong, another one may have been right or not.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from storage.models import AttemptRow, EntryRow
from storage.outcomes import entry_quality

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

RIGHT = 0.5
"""A grade from here on counts as right."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """What a judge said of answers that were ``right`` or ``wrong``, by the answers' model.

    ``right_trusted`` and ``wrong_trusted`` count those at which it ended the cascade.
    """

    judge: str
    model: str
    right: int
    right_trusted: int
    wrong: int
    wrong_trusted: int

    @property
    def sensitivity(self) -> float | None:
        """Share of right answers that it trusted; None where there was none."""
        return self.right_trusted / self.right if self.right else None

    @property
    def specificity(self) -> float | None:
        """Share of wrong answers that it did not trust; None where there was none."""
        return 1.0 - self.wrong_trusted / self.wrong if self.wrong else None

    @property
    def precision(self) -> float | None:
        """Share of right ones among those that it trusted; None where it trusted none."""
        trusted = self.right_trusted + self.wrong_trusted
        return self.right_trusted / trusted if trusted else None


def read_reliability(
    session: Session, since: datetime | None = None, until: datetime | None = None
) -> list[Reliability]:
    """Measure every judge on the graded entries begun in [``since``, ``until``)."""
    begun = []
    if since is not None:
        begun.append(EntryRow.started_at >= since)
    if until is not None:
        begun.append(EntryRow.started_at < until)
    quality = entry_quality(*begun)
    found = (
        select(
            AttemptRow.judge,
            AttemptRow.model,
            AttemptRow.trusted,
            AttemptRow.answer_value,
            EntryRow.answer_value,
            quality.c.quality,
        )
        .join(EntryRow, EntryRow.id == AttemptRow.entry_id)
        .join(quality, quality.c.entry_id == EntryRow.id)
        .where(AttemptRow.trust.is_not(None), AttemptRow.answer_value.is_not(None), *begun)
    )
    counts: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for judge, model, trusted, said, given, grade in session.execute(found):
        good = grade >= RIGHT
        if said != given and not good:
            continue
        at = 0 if said == given and good else 2
        counts[judge, model][at] += 1
        counts[judge, model][at + 1] += bool(trusted)
    return [Reliability(*key, *counts[key]) for key in sorted(counts)]
