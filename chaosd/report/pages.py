"""What pages share, a report and the daemon's: templates that escape whatever is put into them, and the style."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates(package: str, filters: Mapping[str, Callable[..., Any]]) -> Environment:
    """Those in the folder `templates` of a package. What a template names and is not there is an error."""
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment


def style() -> str:
    """The style sheet: light and dark, on paper and on a phone."""
    return files("chaosd.report").joinpath("templates/report.css").read_text()
