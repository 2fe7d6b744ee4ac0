"""The daemon's log."""

from __future__ import annotations

import logging
from typing import Literal

import pytest

from chaosd.daemon import logs


@pytest.mark.parametrize("style", ["text", "json"])
def test_what_a_library_logs_of_an_error_has_its_traceback(
    style: Literal["text", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.opened(style)
    try:
        int("of a request")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Error handling request")
    told = capsys.readouterr().err
    assert "Error handling request" in told
    assert "ValueError: invalid literal for int() with base 10: 'of a request'" in told
