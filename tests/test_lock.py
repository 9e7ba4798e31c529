"""The locked requirements: complete, hashed, and free of where they were made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def locked(path: Path) -> dict[str, list[Requirement]]:
    """Every pinned requirement by name; one name may be pinned several times, under different markers."""
    lines = path.read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    found: dict[str, list[Requirement]] = {}
    for line in lines:
        if line and not line.lstrip().startswith("#"):
            requirement = Requirement(line.split(" --hash")[0].strip())
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def declared() -> dict[str, list[Requirement]]:
    """The requirements of pyproject.toml by extra; '' is the plain install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = {"": project["dependencies"], **project["optional-dependencies"]}
    return {extra: [Requirement(text) for text in group] for extra, group in texts.items()}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_pin_is_exact_and_hashed(path):
    text = path.read_text(encoding="utf-8").replace("\\\n", "")
    for line in text.splitlines():
        if line and not line.lstrip().startswith("#"):
            assert re.match(
                r"[a-z0-9-]+(\[[a-z,-]+\])?==\S+( ; [^-]+)?\s+--hash=sha256:[0-9a-f]{64}", line
            ), line


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_no_lock_says_where_it_was_made(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|file:|--(extra-)?index|--find-links|(^|\s)/\w", text)


@pytest.mark.parametrize(
    ("path", "extras"),
    [
        ("edge.txt", [""]),
        ("tflite-runtime.txt", ["", "tflite-runtime"]),
        ("dev.txt", ["", "trainer", "monitor", "flash", "dev"]),
    ],
)
def test_every_declared_requirement_is_locked_in_its_range(path, extras):
    pins = locked(ROOT / "requirements" / path)
    for requirement in [r for extra in extras for r in declared()[extra]]:
        for pin in pins[canonicalize_name(requirement.name)]:
            version = Version(next(iter(pin.specifier)).version)
            assert requirement.specifier.contains(version, prereleases=True), f"{requirement} but {pin}"


def test_a_cart_gets_nothing_of_the_trainer():
    pins = locked(ROOT / "requirements/edge.txt")
    assert not {"tensorflow", "keras", "matplotlib", "scikit-learn", "pytest"} & set(pins)
    assert "opencv-python-headless" in pins
