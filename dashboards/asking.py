"""Asking a Prometheus what the dashboard asks, without a Grafana."""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

# What Grafana puts in the place of its variables where "All" is chosen and a quarter of an hour is shown.
_VARIABLES = {
    "$__rate_interval": "1m",
    "$__interval": "15s",
    "$__range": "15m",
    "$namespace": ".*",
    "$statefulset": ".*",
    "$experiment": ".*",
}


def substituted(expression: str) -> str:
    """An expression of the dashboard as a Prometheus is asked it."""
    return re.sub(r"\$\w+", lambda variable: _VARIABLES[variable[0]], expression)


class Asked:
    """A Prometheus at an address such as http://127.0.0.1:9090."""

    def __init__(self, address: str) -> None:
        self.address = address

    def now(self, expression: str) -> list[Mapping[str, Any]]:
        """Series with their `metric` (labels) and `value` (time, text)."""
        return self._result("query", query=substituted(expression))

    def between(self, expression: str, start: float, end: float, step_seconds: float) -> list[Mapping[str, Any]]:
        """Series with their `metric` (labels) and `values` (time, text each); times in seconds since the epoch."""
        return self._result("query_range", query=substituted(expression), start=start, end=end, step=step_seconds)

    def _result(self, what: str, **parameters: Any) -> list[Mapping[str, Any]]:
        url = f"{self.address}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - an address that the caller chose
            return list(json.load(answer)["data"]["result"])
