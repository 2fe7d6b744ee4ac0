"""What the image is built of; the image itself is looked at in tests/e2e."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

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


def test_processes_that_ask_for_it_at_once_build_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from testbed import chaosd_image, nodes

    built: list[Path] = []

    def build(archive: Path) -> None:
        time.sleep(0.2)
        built.append(archive)

    monkeypatch.setattr("testbed.lock.CACHE", tmp_path)
    monkeypatch.setattr(chaosd_image, "ARCHIVE", tmp_path / "image.tar")
    monkeypatch.setattr(chaosd_image, "build", build)
    monkeypatch.setattr(nodes, "import_images", lambda archive: None)
    with ThreadPoolExecutor() as threads:
        assert set(threads.map(lambda _: chaosd_image.give_to_nodes(), range(4))) == {chaosd_image.NAME}
    assert built == [tmp_path / "image.tar"]
