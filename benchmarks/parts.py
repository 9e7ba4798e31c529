"""Real processes for the fault benchmarks: a broker without persistence, an agent, the monitor's receiver."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import yaml

BUNDLE = Path(__file__).parents[1] / "trainer" / "demo" / "phantom.swb"
SITE, DEVICE = "bench", "cart"


class Part:
    """A process that may be killed and started again; its output goes to a file."""

    def __init__(self, log: Path, *command: str) -> None:
        self.log, self._command = log, command
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """End it as its service manager would."""
        assert self.process
        self.process.terminate()
        return self.process.wait(30)

    def alive(self) -> None:
        """Raises if it has ended by itself."""
        if self.process and self.process.poll() is not None:
            tail = self.log.read_text("utf-8", "replace").splitlines()[-5:]
            raise RuntimeError(f"{self._command[0]} ended by itself: " + "\n".join(tail))


def broker(folder: Path) -> tuple[Part, int]:
    """A mosquitto that remembers nothing of what it had when it is killed."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/opt/homebrew/sbin")
    if program is None:
        sys.exit("error: mosquitto is not installed: apt-get install mosquitto")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n"
    )
    return Part(folder / "mosquitto.log", program, "-c", str(config)), port


def receiver(folder: Path, port: int) -> tuple[Part, Path]:
    """The monitor, and the file of its store."""
    store = folder / "findings.db"
    command = [
        "monitor",
        "--no-page",
        "--broker",
        f"mqtt://127.0.0.1:{port}",
        "--store",
        f"sqlite:///{store}",
    ]
    return Part(folder / "monitor.log", sys.executable, "-m", "edge.cli", *command), store


class Cart(Part):
    """An agent on a folder of its own, with generated pictures dropped into it."""

    def __init__(self, folder: Path, port: int, state: Path) -> None:
        folder.mkdir()
        self.drop, self.fed = folder / "drop", 0
        self.drop.mkdir()
        self.database = state / "agent.db"
        config = {
            "site": SITE,
            "device": DEVICE,
            "state": str(state),
            "bundles": [str(BUNDLE)],
            "allow_unsigned": True,
            "sources": [{"kind": "folder", "path": "drop", "poll_s": 0.05, "settle_s": 0.05}],
            "mqtt": {"port": port, "receipts": True},
            "screen": None,
            "min_free_mb": 1,
        }
        path = folder / "agent.yaml"
        path.write_text(yaml.safe_dump(config))
        command = ["-m", "edge.cli", "agent", "run", "--config", str(path)]
        super().__init__(folder / "agent.log", sys.executable, *command)

    def feed(self) -> None:
        """Drop a picture that is like no other, whole from the start."""
        pixels = np.random.default_rng(self.fed).integers(0, 255, (32, 32), np.uint8)
        partial = self.drop / f".{self.fed}"
        partial.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        partial.rename(self.drop / f"{self.fed:06}.png")
        self.fed += 1


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    """Rows of a query over a database that another process writes; none while it is not there."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
        try:
            return database.execute(sql).fetchall()
        except sqlite3.OperationalError:
            return []


def until(condition: Callable[[], bool], timeout_s: float, *parts: Part) -> bool:
    """Whether the condition comes true in time, while the parts live."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        for part in parts:
            part.alive()
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
