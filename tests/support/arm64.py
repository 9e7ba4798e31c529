"""Programs for 64-bit Arm on this machine: emulated, and with the /proc/cpuinfo of what is emulated."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# The interpreter asks what the processor can do, and /proc says what this machine's can.
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


def as_cortex_a72(folder: Path, *command: object) -> list[str]:
    """``command`` such that what it runs for Arm sees a Cortex-A72; skips where nothing is emulated.

    ``folder`` keeps what that takes.
    """
    if os.geteuid() or not shutil.which("qemu-aarch64-static"):
        pytest.skip("needs root and qemu-aarch64-static: apt-get install qemu-user-static")
    cpuinfo = folder / "cpuinfo"
    cpuinfo.write_text(_CPUINFO)
    script = f'mount --bind {cpuinfo} /proc/cpuinfo && QEMU_CPU=cortex-a72 exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh", *map(str, command)]
