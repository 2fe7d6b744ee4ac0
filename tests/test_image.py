"""What the image is built of; the image itself is looked at in tests/e2e."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _pinned(lock: str) -> dict[str, str]:
    """Versions by package."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", (ROOT / "requirements" / lock).read_text(), re.MULTILINE))


def test_it_holds_the_packages_that_are_tested_and_postgresqls_driver_and_nothing_that_builds() -> None:
    image, runtime, build = _pinned("image.txt"), _pinned("runtime.txt"), _pinned("build.txt")
    added = {name for name in image if name.startswith("psycopg")}
    assert {name: version for name, version in image.items() if name not in added} == {
        name: version for name, version in runtime.items() if name not in build
    }
    assert {name: _pinned("dev.txt")[name] for name in added} == {name: image[name] for name in added}
    assert build.items() <= runtime.items()


def test_what_the_dockerfile_copies_is_let_through_and_nothing_else_is() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == {name for names in copied for name in names.split()}
