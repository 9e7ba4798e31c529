"""The agent's own environment for 64-bit Arm, run on emulated processors without an Arm system."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from arm64 import as_cortex_a72
from debian_root import unpacked

import trainer.demo
from edge.bundle.target import target
from tests.integration.test_install import EVERYTHING
from trainer.flashing.deb import LIBRARIES
from trainer.flashing.flash import wheels_for
from trainer.flashing.wheels import install

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PHANTOM = Path(trainer.demo.__file__).with_name("phantom.swb")
_REPLAY = """\
import platform, sys
from pathlib import Path
from edge.bundle.archive import open_bundle
from edge.bundle.golden import Golden
from edge.inference.predictor import Predictor, replay
assert platform.machine() == "aarch64"
for path in map(Path, sys.argv[1:]):
    bundle = open_bundle(path)
    golden = Golden.from_npz(bundle.member("golden.npz"))
    print(path.name, replay(Predictor.from_model(bundle.member("model.tflite"), bundle.manifest), golden))
"""


def test_what_the_arm64_package_holds_loads_and_infers_bit_for_bit_as_this_machine_does(
    tmp_path: Path, tiny_bundle: Any
) -> None:
    board = target("generic-arm64")
    release = board.release("bookworm")
    system = unpacked(release.name, "arm64", f"python{release.python}", *LIBRARIES)
    site, tiny = tmp_path / "site", tiny_bundle(tmp_path / "tiny.swb")
    home = ("-L", system, "-E", f"PYTHONHOME={system}/usr", "-E", f"PYTHONPATH={site}")
    program = (system / f"usr/bin/python{release.python}", tmp_path / "replay.py", tiny, PHANTOM)
    command = as_cortex_a72(tmp_path, "qemu-aarch64-static", *home, *program)
    # What the package holds; packing it is minutes of compression.
    install(wheels_for(board, release, None), board, release, site)
    (tmp_path / "replay.py").write_text(_REPLAY + EVERYTHING)
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == ["tiny.swb 0", "phantom.swb 0", "imported"]
