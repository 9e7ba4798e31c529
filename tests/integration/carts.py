"""A cart for integration tests: the real agent in a process, its folder and its configuration."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import yaml

PATIENT = "DOE-JOHN-19600101"


class Cart:
    """An agent's folder, and the agent when it runs."""

    def __init__(
        self, folder: Path, bundle: Callable[..., Path], picture: Callable[..., Any], port: int
    ) -> None:
        self.folder, self.picture = folder, picture
        self.drop = folder / "drop"
        self.drop.mkdir()
        bundle(folder / "tiny.swb")
        self.config: dict[str, Any] = {
            "site": "clinic",
            "device": "cart-1",
            "state": "state",
            "bundles": ["tiny.swb"],
            "allow_unsigned": True,
            "sources": [{"kind": "folder", "path": "drop", "poll_s": 0.05, "settle_s": 0.1}],
            "mqtt": {"port": port},
            "screen": None,
        }
        self.process: subprocess.Popen[str] | None = None
        self.log = folder / "agent.log"

    @property
    def path(self) -> Path:
        path = self.folder / "agent.yaml"
        path.write_text(yaml.safe_dump(self.config))
        return path

    def feed(self, *numbers: int) -> None:
        """Drop pictures, each different, under names that a patient could be known by."""
        for number in numbers:
            kind = "lesion" if number % 2 else "normal"
            png = cv2.imencode(".png", self.picture(kind, number))[1].tobytes()
            partial = self.drop / f".{number}"
            partial.write_bytes(png)
            partial.rename(self.drop / f"{PATIENT}-{number}.png")

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edge.cli", "agent", "run", "--config", str(self.path)],
                stdout=log,
                stderr=log,
                text=True,
            )

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process
        self.process.send_signal(number)
        return self.process.wait(60)

    def waiting(self) -> int:
        """How many findings wait in the agent's outbox; -1 before there is one."""
        path = self.folder / "state" / "agent.db"
        if not path.exists():
            return -1
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'outbox'").fetchone():
                return -1
            return int(database.execute("SELECT count(*) FROM outbox WHERE kind = 'finding'").fetchone()[0])

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edge.cli", "agent", *arguments, "--config", str(self.path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
