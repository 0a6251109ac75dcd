"""What can be wrong about asking for a report."""

from __future__ import annotations

from router.errors import ConfigError


class ReportError(ConfigError):
    """A report cannot be made as it was asked for."""


class ExtraNeededError(ReportError):
    """A part of a report needs libraries that come with an extra."""

    def __init__(self, part: str, extra: str) -> None:
        super().__init__(f"{part} need the extra {extra!r}: pip install 'rheostat[{extra}]'")
