"""From an agent's cold start to READY, as systemd hears it.

    python benchmarks/start.py [--starts 10] [--json FILE]

``ready_s`` is the time to READY=1 on the notification socket, ``cpu_s`` the processor time that the process
had taken by then, with the cart's screen and (``bare_``) without; ``reference_s`` a process that only imports
numpy and OpenCV, in the same run. Medians; on a busy machine only the processor time says something.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import yaml
from parts import Cart

PATIENCE_S = 120.0
TICKS = os.sysconf("SC_CLK_TCK")


def started(config: Path, notify: socket.socket) -> tuple[float, float]:
    """Seconds to READY, and of processor time until then."""
    command = [sys.executable, "-m", "edge.cli", "agent", "run", "--config", str(config)]
    environment = os.environ | {"NOTIFY_SOCKET": str(notify.getsockname())}
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        while b"READY=1" not in notify.recv(1000):
            pass
        elapsed = time.perf_counter() - begun
        fields = Path(f"/proc/{process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return elapsed, (int(fields[11]) + int(fields[12])) / TICKS  # utime and stime, proc(5)
    finally:
        process.terminate()
        process.wait()


def reference() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import numpy, cv2"], check=True)
    return time.perf_counter() - begun


@click.command()
@click.option("--starts", default=10, show_default=True, help="Of each.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the figures there, too.")
def main(starts: int, path: Path | None) -> None:
    """Print how long a start takes."""
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        folder = Path(name)
        notify.bind(str(folder / "notify"))
        notify.settimeout(PATIENCE_S)
        Cart(folder / "cart", 9, folder / "state")
        bare = folder / "cart" / "agent.yaml"
        shown = bare.with_name("shown.yaml")
        shown.write_text(yaml.safe_dump(yaml.safe_load(bare.read_text("utf-8")) | {"screen": {"port": 0}}))
        rounds = [(started(shown, notify), started(bare, notify), reference()) for _ in range(starts)]
    result = {
        "starts": starts,
        "ready_s": statistics.median(one[0][0] for one in rounds),
        "cpu_s": statistics.median(one[0][1] for one in rounds),
        "bare_ready_s": statistics.median(one[1][0] for one in rounds),
        "bare_cpu_s": statistics.median(one[1][1] for one in rounds),
        "reference_s": statistics.median(one[2] for one in rounds),
    }
    result |= {key: round(value, 3) for key, value in result.items()}
    result["ready_ratio"] = round(result["ready_s"] / result["reference_s"], 2)
    text = json.dumps(result)
    print(text)
    if path:
        path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
