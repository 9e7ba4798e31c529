"""Bytes that an agent writes to its card: idle in a day with no broker in reach, and for each finding.

``python benchmarks/card_wear.py [--seconds 240]`` prints JSON. The kernel's own count of the process is taken
(``write_bytes`` of /proc/PID/io), so the state has to be on a disk. What an image weighs in the
spool comes on top.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import click
import cv2
import numpy as np
import yaml

BUNDLE = Path(__file__).parents[1] / "trainer/demo"


def written(process: subprocess.Popen[bytes]) -> int:
    lines = Path(f"/proc/{process.pid}/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])


def found(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
        return int(database.execute("SELECT count(*) FROM outbox WHERE kind = 'finding'").fetchone()[0])


@click.command()
@click.option("--seconds", default=240, show_default=True, help="How long it is watched idle.")
@click.option("--findings", default=50, show_default=True)
def main(seconds: int, findings: int) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        (folder / "drop").mkdir()
        (bundle,) = BUNDLE.glob("*.swb")
        config = {
            "site": "clinic",
            "device": "cart-1",
            "state": "state",
            "bundles": [str(bundle)],
            "allow_unsigned": True,
            "sources": [{"kind": "folder", "path": "drop", "settle_s": 0.1, "poll_s": 0.05}],
            "mqtt": {"port": 1},
            "screen": None,
        }
        (folder / "agent.yaml").write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "edge.cli", "agent", "run", "--config", str(folder / "agent.yaml")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(30)
            before = written(process)
            time.sleep(seconds)
            idle = (written(process) - before) / seconds
            before, began = written(process), time.monotonic()
            pixels = np.random.default_rng(0)
            for number in range(findings):
                image = pixels.integers(0, 256, (128, 128), np.uint8)
                cv2.imwrite(str(folder / "drop" / f"{number}.png"), image)
            while found(folder / "state/agent.db") < findings and time.monotonic() - began < 300:
                time.sleep(0.5)
            time.sleep(2)
            each = (written(process) - before - idle * (time.monotonic() - began)) / findings
        finally:
            process.terminate()
            process.wait(30)
    print(json.dumps({"idle_mb_a_day": round(idle * 86400 / 1e6, 1), "kb_a_finding": round(each / 1e3, 1)}))


if __name__ == "__main__":
    main()
