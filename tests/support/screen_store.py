"""A store filled by hand, for tests of the screen."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.agent import store as store_module
from edge.agent.config import AgentConfig, FolderSource
from edge.agent.database import Database
from edge.agent.store import Store
from edge.mqtt.payloads import BundleRef, Finding

__all__ = ["BUNDLE", "Filled", "make_config"]

BUNDLE = BundleRef(
    name="chest-phantom", version="0.1.0", sha256="ab" * 32, target="raspberry-pi-5", signed=False
)


def make_config(folder: Path, **changes: Any) -> AgentConfig:
    values: dict[str, Any] = {
        "site": "north-clinic",
        "device": "cart-7",
        "state": folder,
        "bundles": [folder / "b.swb"],
        "sources": [FolderSource(path=folder / "in")],
    }
    return AgentConfig(**(values | changes))


def _picture(n: int, heat: bool) -> bytes:
    y, x = np.mgrid[0:240, 0:320]
    gray = 40 + 120 * np.exp(-(((x - 160) / 90) ** 2 + ((y - 120) / (60 + n % 7)) ** 2))
    pixels = np.repeat(gray[..., None], 3, axis=2)
    if heat:
        pixels[..., 2] += 90 * np.exp(-(((x - 200) / 30) ** 2 + ((y - 90) / 30) ** 2))
    return cv2.imencode(".png", pixels.clip(0, 255).astype(np.uint8))[1].tobytes()


class Filled:
    """A store of its own in ``folder``, with :meth:`put` to add findings as the agent would."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(folder / "agent.db")
        self.store = Store(self.database)
        self.config = make_config(folder)
        self._count = 0

    def put(self, decision: str, label: str | None = None, pictures: bool = True, **changes: Any) -> Finding:
        self._count += 1
        key = hashlib.sha256(str(self._count).encode()).hexdigest()
        answered = decision != "no_result"
        p = changes.pop("p", 0.934)
        values: dict[str, Any] = {
            "id": key[:32],
            "site": "north-clinic",
            "device": "cart-7",
            "stamp": {
                "at": datetime.now(timezone.utc).isoformat(),
                "clock_trusted": True,
                "monotonic_s": 5.0,
                "boot_id": "b",
            },
            "case_code": f"{key[:4]}-{key[4:8]}".upper(),
            "study": key[32:],
            "source": "folder",
            "bundle": BUNDLE,
            "decision": decision,
            "label": label,
            "probability": p if label else None,
            "probabilities": {label: p, "effusion": round(1 - p, 3)} if label else {},
            "thresholds": {label: 0.4} if label else {},
            "evidence": {"ood_score": 2.0, "ood_limit": 9.0} if answered else {},
            "elapsed_ms": {"infer": 3.0, "total": 12.4},
        }
        finding = Finding.model_validate(values | changes)
        image = _picture(self._count, False) if pictures else None
        overlay = _picture(self._count, True) if pictures else None
        payload = finding.model_dump_json()
        self.database.write(
            lambda connection: store_module.add(connection, finding.id, payload, image, overlay)
        ).result()
        return finding
