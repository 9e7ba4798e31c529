"""The wheel carries all that a plain install needs, and nothing of the tests."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edge.bundle.target import target_names
from trainer.recipe import recipe_names

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def test_it_runs_everywhere(wheel):
    assert wheel.filename.endswith("-py3-none-any.whl")


def test_targets_recipes_and_type_markers_are_inside(wheel):
    names = set(wheel.namelist())
    assert {f"firmware_configs/{name}.yaml" for name in target_names()} <= names
    assert {f"trainer/recipes/{name}.yaml" for name in recipe_names()} <= names
    assert {"edge/py.typed", "trainer/py.typed"} <= names


def test_the_screen_and_the_demo_need_no_checkout(wheel):
    names = set(wheel.namelist())
    for folder, kinds in {"edge/web": {".css", ".json"}, "trainer/demo": {".swb"}}.items():
        inside = {Path(name).suffix for name in names if name.startswith(folder + "/")}
        assert kinds <= inside, f"{folder} has only {sorted(inside)}"


def test_a_plain_install_can_fetch_what_a_cart_needs(wheel):
    lock = (ROOT / "requirements/edge.txt").read_bytes()
    assert wheel.read("trainer/flashing/requirements.txt") == lock


def test_everything_of_the_packages_is_inside(wheel):
    tracked = subprocess.run(
        ["git", "ls-files", "edge", "trainer", "firmware_configs"], cwd=ROOT, capture_output=True, text=True
    )
    if tracked.returncode:
        pytest.skip("not a git checkout")
    assert set(tracked.stdout.split()) <= set(wheel.namelist())


def test_no_tests_no_caches_and_no_documentation_are_inside(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edge", "trainer", "firmware_configs"}
    assert not [name for name in wheel.namelist() if "__pycache__" in name or "test_" in name]


def test_its_licence_and_its_commands_are_stated(wheel):
    info = next(name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    assert "scanwright = edge.cli:main" in wheel.read(info).decode()
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())
