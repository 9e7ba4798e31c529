"""Files that must be whole, and places that forget them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.files import in_memory

LINES = """\
21 1 0:19 / / rw,relatime - overlay scanwright-memory rw,lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work
30 21 254:3 / /var/lib/scanwright rw,nosuid - ext4 /dev/mmcblk0p3 rw
31 21 0:30 / /tmp rw - tmpfs tmpfs rw
"""
ASK = """\
import sys
from pathlib import Path
from edge.agent.room import Room

class Recorder:
    def tell(self, severity, code, message):
        print(severity, code, message)

print(Room(Path(sys.argv[1]), 1, Recorder()).enough())
"""


@pytest.mark.parametrize(
    ("folder", "forgets"),
    [
        ("/var/lib/scanwright/spool", False),
        ("/var/lib/scanwright-of-another", True),
        ("/etc", True),
        ("/tmp", False),  # memory, but nobody was told otherwise
    ],
)
def test_a_folder_is_in_memory_where_the_layer_over_a_cards_root_is_what_holds_it(tmp_path, folder, forgets):
    (tmp_path / "mountinfo").write_text(LINES)
    assert in_memory(Path(folder), tmp_path / "mountinfo") is forgets


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")
def test_no_image_is_taken_where_all_is_gone_with_the_power(tmp_path):
    (tmp_path / "lower").mkdir()
    overlay = Path(__file__).parents[2] / "firmware_configs/card/overlay-init"
    (line,) = [line for line in overlay.read_text().splitlines() if line.startswith("mount -t overlay")]
    mount = line.removesuffix(" || {").replace("lowerdir=/,", f"lowerdir={tmp_path}/lower,")
    mount = mount.replace("/mnt", f"{tmp_path}/mnt")
    script = (
        f"mkdir {tmp_path}/mnt && mount -t tmpfs layer {tmp_path}/mnt && cd {tmp_path}/mnt"
        f" && mkdir upper work root && {mount} && cd {Path.cwd()} && {sys.executable} -c '{ASK}'"
    )
    for place, said in (("mnt/root", "data partition is not mounted"), ("lower", "True")):
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", f"{script} {tmp_path}/{place}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, said in done.stdout) == (0, True), done.stdout + done.stderr
        (tmp_path / "mnt").rmdir()
