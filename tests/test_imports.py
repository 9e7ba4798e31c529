"""Imports run one way: the device's code knows nothing of training, and each layer only those below it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TENSORFLOW = {"tensorflow", "tf_keras", "keras", "tensorflow_model_optimization"}

# Package (or module) -> the project's packages it may import; "edge" alone stands for edge/__init__.py.
# The agent's configuration is a contract, read by all who run a part of the agent; it imports none of them.
BELOW = {"edge", "edge.errors", "edge.exposition", "edge.files", "edge.output", "edge.schema"}
MAY_IMPORT = {
    "edge.errors": {"edge"},
    "edge.exposition": {"edge"},
    "edge.files": {"edge"},
    "edge.output": {"edge", "edge.errors"},
    "edge.schema": {"edge", "edge.errors"},
    "edge.cli": {"edge", "edge.errors"},
    "edge.agent.config": BELOW,
    "edge.bundle": BELOW,
    "edge.imaging": BELOW | {"edge.bundle"},
    "edge.inference": BELOW | {"edge.bundle", "edge.imaging"},
    "edge.mqtt": BELOW | {"edge.bundle", "edge.agent.config"},
    "edge.sources": BELOW | {"edge.bundle", "edge.imaging", "edge.agent.config"},
    "edge.update": BELOW | {"edge.bundle"},
    "edge.site": BELOW | {"edge.bundle", "edge.agent.config"},
    "edge.agent": BELOW
    | {
        "edge.bundle",
        "edge.imaging",
        "edge.inference",
        "edge.keys.authority",  # a revocation list that comes by stick
        "edge.mqtt",
        "edge.sources",
        "edge.update",
        "edge.web",
    },
    "edge.keys": BELOW | {"edge.bundle", "edge.mqtt.topics", "edge.site", "edge.update"},
    "edge.phone": BELOW | {"edge.bundle", "edge.mqtt", "edge.web"},
    "edge.monitor": BELOW
    | {"edge.bundle.manifest", "edge.bundle.reasons", "edge.mqtt", "edge.phone", "edge.update", "edge.web"},
}


def modules(package: str) -> list[tuple[str, Path]]:
    paths = sorted((ROOT / package).rglob("*.py"))
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths
    ]
    return list(zip(names, paths, strict=True))


def imports(module: str, path: Path) -> set[str]:
    """Absolute names of all modules that a module imports, wherever in it the statement stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: import by absolute name"
            found |= {node.module} | {
                f"{node.module}.{alias.name}"
                for alias in node.names
                if is_module(f"{node.module}.{alias.name}")
            }
    return found


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").exists() or path.is_dir()


def inside(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages - {"edge"})


@pytest.mark.parametrize(("module", "path"), modules("edge"))
def test_edge_imports_only_what_lies_below(module: str, path: Path):
    layer = next((layer for layer in MAY_IMPORT if inside(module, {layer})), None)
    allowed = MAY_IMPORT.get(layer, {"edge"}) | ({layer} if layer else set())
    for name in imports(module, path):
        top = name.split(".")[0]
        assert top != "trainer", f"{module} imports {name}: edge never imports trainer"
        assert top not in TENSORFLOW, f"{module} imports {name}: a device has no TensorFlow"
        if top == "edge":
            assert name == "edge" or inside(name, allowed), f"{module} may not import {name}"


@pytest.mark.parametrize(("module", "path"), modules("trainer"))
def test_trainer_uses_the_contracts_and_the_devices_path(module: str, path: Path):
    allowed = BELOW | {"edge.bundle", "edge.imaging", "edge.inference", "edge.update", "edge.mqtt"}
    if inside(module, {"trainer.demo"}):
        allowed |= {"edge.agent", "edge.web"}  # the demo runs the cart too
    if inside(module, {"trainer.flashing"}):
        allowed |= {"edge.site", "edge.keys", "edge.agent.config"}  # it writes what the agent reads
    if module == "trainer.packaging.phone":
        allowed |= {"edge.phone"}  # packaging writes the app's folder
    for name in imports(module, path):
        if name.split(".")[0] == "edge":
            assert name == "edge" or inside(name, allowed), f"{module} may not import {name}"


def import_and_list(*names: str) -> set[str]:
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_device_loads_no_tensorflow():
    assert not import_and_list(*(module for module, _ in modules("edge"))) & (TENSORFLOW | {"trainer"})


@pytest.mark.parametrize("package", ["trainer.packaging", "trainer.flashing", "trainer.data", "trainer.demo"])
def test_a_plain_install_can_package_and_demonstrate(package: str):
    names = [module for module, _ in modules(package.replace(".", "/"))]
    assert not import_and_list(*names, "trainer.cli") & (TENSORFLOW | {"matplotlib", "sklearn"})


def test_every_command_shows_its_help_without_tensorflow():
    code = (
        "import sys, edge.cli, click\n"
        "context = click.Context(edge.cli.cli)\n"
        "for name in edge.cli.cli.list_commands(context):\n"
        "    edge.cli.cli.get_command(context, name).get_help(context)\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert not {name.split(".")[0] for name in done.stdout.split()} & TENSORFLOW


def test_every_module_says_what_it_is_and_what_it_offers():
    for package in ("edge", "trainer"):
        for module, path in modules(package):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert ast.get_docstring(tree), f"{module} has no docstring"
            if path.name not in ("__init__.py", "__main__.py"):
                targets = [t for node in tree.body if isinstance(node, ast.Assign) for t in node.targets]
                assert any(getattr(t, "id", "") == "__all__" for t in targets), f"{module} has no __all__"


def test_no_module_has_two_jobs():
    for package in ("edge", "trainer"):
        for module, path in modules(package):
            length = len(path.read_text(encoding="utf-8").splitlines())
            assert length <= 430, f"{module} has {length} lines: split it"
