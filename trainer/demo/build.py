"""Makes the demo's bundle by the commands that a user would type: generated images, train, package.

``python -m trainer.demo.build`` makes ``phantom.swb`` again, which ships in the wheel for ``demo --quick``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from edge.errors import ScanwrightError
from trainer.data.phantoms import LABELS
from trainer.data.phantoms.writer import write_phantoms
from trainer.progress import Reporter

__all__ = ["SHIPPED", "TARGET", "make_bundle"]

SHIPPED = Path(__file__).parent / "phantom.swb"
TARGET = "raspberry-pi-5"

_RECIPE = "chest-phantom"
_SIDE = 96
# Images of each label: what three minutes allow, and what the shipped bundle learns from.
_QUICKLY = {"train": 300, "val": 30, "test": 40}
_THOROUGHLY = {"train": 900, "val": 60, "test": 100}


def make_bundle(folder: Path, console: Console, *, thorough: bool = False) -> Path:
    """Leave ``data``, ``run`` (with ``report.html``) and the bundle in ``folder``; returns the bundle.

    Raises:
        ScanwrightError: a command failed; it has said why.
    """
    data, run = folder / "data", folder / "run"
    counts = _THOROUGHLY if thorough else _QUICKLY
    total = sum(counts.values()) * len(LABELS["chest"])
    with Reporter(console).bar("Generating chest phantoms", total) as advance:
        write_phantoms(
            data, "chest", counts, seed=1, size=_SIDE, advance=advance, shots=1, workers=os.cpu_count() or 1
        )
    console.print(f"{total} generated chest radiographs in {data}", markup=False)
    _command(console, "train", "--recipe", _RECIPE, "--data", data, "--out", run)
    _command(console, "package", run, "--target", TARGET, "--out", folder)
    (bundle,) = folder.glob(f"*-{TARGET}.swb")
    return bundle


def _command(console: Console, *words: str | Path) -> None:
    """Run ``scanwright`` with these words, as a user would see it."""
    arguments = [str(word) for word in words]
    console.print(f"\n[bold]$ scanwright {' '.join(arguments)}[/]", highlight=False, soft_wrap=True)
    result = subprocess.run([sys.executable, "-m", "edge.cli", *arguments], check=False)
    if result.returncode:
        raise ScanwrightError(f"scanwright {arguments[0]} ended with exit code {result.returncode}")


def _build() -> None:
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder), console, thorough=True)
        shutil.copyfile(bundle, SHIPPED)
    console.print(f"{SHIPPED}  {SHIPPED.stat().st_size:,} bytes")


if __name__ == "__main__":
    _build()
