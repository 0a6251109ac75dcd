"""What can be wrong about asking for a report."""

from __future__ import annotations

from router.errors import ConfigError


class ReportError(ConfigError):
    """A report cannot be made as it was asked for."""


def extra_needed(what: str, extra: str) -> ReportError:
    """Say which extra brings what a report lacks."""
    return ReportError(f"{what} need the extra {extra!r}: pip install 'rheostat[{extra}]'")
