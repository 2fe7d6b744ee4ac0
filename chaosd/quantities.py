"""Quantities as people write them in Kubernetes and in experiments: bytes (`64Ki`, `20Gi`), durations (`90s`, `5m`), and
time zones (`Europe/Berlin`).

Source: Kubernetes docs, "Quantity" (API reference), and Go's time.ParseDuration.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

# As Kubernetes writes them in claims (API conventions, "Quantities"), without exponents.
KUBERNETES_QUANTITY = r"\d+(\.\d+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?"

_BYTES = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "k": 10**3, "M": 10**6, "G": 10**9}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_QUANTITY_BYTES = {**_BYTES, "Pi": 1 << 50, "Ei": 1 << 60, "T": 10**12, "P": 10**15, "E": 10**18}


def parse_quantity(quantity: str) -> Decimal:
    """Bytes of a quantity of storage as Kubernetes writes it, such as `20Gi`, `1.5Gi` or `1e9`. Raises ValueError."""
    match = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+))([KMGTPE]i|[kMGTPE]|[eE][+-]?\d+|)", quantity)
    if not match:
        raise ValueError(f"{quantity!r} is no quantity as Kubernetes has them")
    number, suffix = match.groups()
    if suffix in _QUANTITY_BYTES:
        return Decimal(number) * _QUANTITY_BYTES[suffix]
    return Decimal(number + suffix)


def parse_bytes(value: object) -> int:
    """Bytes of a quantity such as `64Ki`, or of a plain number. Raises ValueError."""
    match = re.fullmatch(r"(\d+)(Ki|Mi|Gi|Ti|k|M|G|)", str(value))
    if isinstance(value, bool) or not match:
        raise ValueError(f"{value!r} is no quantity of bytes: write a whole number with Ki, Mi, Gi or nothing behind it")
    return int(match[1]) * _BYTES[match[2]]


def parse_seconds(value: object) -> float:
    """Seconds of a duration such as `1h30m`, or of a plain number of seconds. Raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    text = str(value)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{value!r} is no duration: write such as 90s, 5m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def parse_share(value: object) -> object:
    """A share such as `25%`, as it is written; what is written otherwise is left to others. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,3})%", str(value))
    if match and int(match[1]) <= 100:
        return str(value)
    if match or isinstance(value, bool):
        raise ValueError(f"{value!r} is no share: write such as 25%, up to 100%")
    return value


def _written_share(value: object) -> object:
    """Raises ValueError."""
    if isinstance(value, str):
        return parse_share(value)
    raise ValueError(f"{value!r} is no share: write it with a sign, such as 90%")


def of_whole(limit: int | str, whole: int) -> int:
    """A share of a whole, rounded down; a number is itself."""
    return whole * int(limit.removesuffix("%")) // 100 if isinstance(limit, str) else limit


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"no time zone is called {name!r}: name one of the IANA database, such as UTC") from error
    return name


_BYTES_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\d+(Ki|Mi|Gi|Ti|k|M|G)?$"}]}
_SECONDS_SCHEMA = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d))+$"}]
}

Bytes = Annotated[int, BeforeValidator(parse_bytes), WithJsonSchema(_BYTES_SCHEMA)]
Seconds = Annotated[float, BeforeValidator(parse_seconds), WithJsonSchema(_SECONDS_SCHEMA)]
_PERCENT_SCHEMA = {"type": "string", "pattern": r"^(100|\d{1,2})%$"}
Percent = Annotated[str, Field(pattern=r"^\d{1,3}%$"), BeforeValidator(_written_share), WithJsonSchema(_PERCENT_SCHEMA)]
TimeZone = Annotated[str, AfterValidator(_known_zone)]
