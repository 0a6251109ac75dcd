"""Figures of the HTTP face in Prometheus' text format: requests by route and status, and times.

Labels are bounded: routes that are served, and statuses. Nothing of keys, tenants or texts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import accumulate

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
MODEL = "/v1/models/{name}"
ROUTES = frozenset(
    {
        "/livez",
        "/metrics",
        "/openapi.json",
        "/readyz",
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/feedback",
        "/v1/messages",
        "/v1/models",
        "/v1/plan",
        "/v1/responses",
    }
)
OTHER = "other"
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of one process, kept on its event loop."""

    def __init__(self) -> None:
        self._in_flight = 0
        self._reloads: Counter[bool] = Counter()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def begin(self) -> None:
        """Count a request that comes in."""
        self._in_flight += 1

    def end(self, path: str, status: int, seconds: float) -> None:
        """Count a request whose answer was sent to its end, or whose client left."""
        route = route_of(path)
        self._in_flight -= 1
        self._requests[route, status] += 1
        buckets = self._buckets.get(route)
        if buckets is None:
            buckets = self._buckets[route] = [0] * (len(BOUNDS_S) + 1)
        buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self._seconds[route] = self._seconds.get(route, 0.0) + seconds

    def count_reload(self, *, ok: bool) -> None:
        """Count a configuration that was taken over, or could not be."""
        self._reloads[ok] += 1

    def text(self) -> str:
        """Give all figures."""
        lines = [
            "# HELP rheostat_http_requests_in_flight Requests that are being answered.",
            "# TYPE rheostat_http_requests_in_flight gauge",
            f"rheostat_http_requests_in_flight {self._in_flight}",
            "# HELP rheostat_http_requests_total Requests answered, by route and status.",
            "# TYPE rheostat_http_requests_total counter",
        ]
        lines += [
            f'rheostat_http_requests_total{{route="{route}",status="{status}"}} {n}'
            for (route, status), n in sorted(self._requests.items())
        ]
        if self._reloads:
            lines += [
                "# HELP rheostat_config_reloads_total Changed configurations, by what came of it.",
                "# TYPE rheostat_config_reloads_total counter",
                f'rheostat_config_reloads_total{{result="failed"}} {self._reloads[False]}',
                f'rheostat_config_reloads_total{{result="taken"}} {self._reloads[True]}',
            ]
        lines += [
            "# HELP rheostat_http_request_seconds Seconds to the last byte of an answer, by route.",
            "# TYPE rheostat_http_request_seconds histogram",
        ]
        for route in sorted(self._buckets):
            lines += self._histogram(route)
        return "\n".join(lines) + "\n"

    def _histogram(self, route: str) -> list[str]:
        name, label = "rheostat_http_request_seconds", f'route="{route}"'
        counts = list(accumulate(self._buckets[route]))
        bounds = [*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"]
        lines = [
            f'{name}_bucket{{{label},le="{bound}"}} {n}'
            for bound, n in zip(bounds, counts, strict=True)
        ]
        return [
            *lines,
            f"{name}_sum{{{label}}} {self._seconds[route]:.6f}",
            f"{name}_count{{{label}}} {counts[-1]}",
        ]


def route_of(path: str) -> str:
    """Name the route of a path; every path that is not served is ``other``."""
    if path in ROUTES:
        return path
    return MODEL if path.startswith("/v1/models/") else OTHER
