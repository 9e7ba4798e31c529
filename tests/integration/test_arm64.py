"""The agent's own environment for 64-bit Arm, run on emulated processors without an Arm system."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from debian_root import unpacked

import trainer.demo
from edge.bundle.target import target
from tests.integration.test_install import EVERYTHING
from trainer.flashing.deb import LIBRARIES
from trainer.flashing.flash import wheels_for
from trainer.flashing.wheels import install

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PHANTOM = Path(trainer.demo.__file__).with_name("phantom.swb")
_CPUINFO = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3
"""
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
    if os.geteuid() or not shutil.which("qemu-aarch64-static"):
        pytest.skip("needs root and qemu-aarch64-static: apt-get install qemu-user-static")
    board = target("generic-arm64")
    release = board.release("bookworm")
    system = unpacked(release.name, "arm64", f"python{release.python}", *LIBRARIES)
    # What the package holds; packing it is minutes of compression.
    site = tmp_path / "site"
    install(wheels_for(board, release, None), board, release, site)
    # The interpreter asks what the processor can do, and /proc says what this machine's can.
    (tmp_path / "cpuinfo").write_text(_CPUINFO)
    (tmp_path / "replay.py").write_text(_REPLAY + EVERYTHING)
    tiny = tiny_bundle(tmp_path / "tiny.swb")
    script = (
        f"mount --bind {tmp_path}/cpuinfo /proc/cpuinfo && exec qemu-aarch64-static -L {system}"
        f" -E PYTHONHOME={system}/usr -E PYTHONPATH={site}"
        f" {system}/usr/bin/python{release.python} {tmp_path}/replay.py {tiny} {PHANTOM}"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        capture_output=True, text=True, timeout=600, check=False, env=os.environ | {"QEMU_CPU": "cortex-a72"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == ["tiny.swb 0", "phantom.swb 0", "imported"]
