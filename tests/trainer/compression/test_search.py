"""What a search tries, in which order, and what it takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("tensorflow")

from edge.errors import BadInputError, ScanwrightError
from trainer.budget import Budget, Found
from trainer.cli import train as command
from trainer.compression import search
from trainer.recipe import Compression

pytestmark = pytest.mark.slow


def tried(channels: float, auroc: float, size: int, fits: bool = True, **settings: Any) -> search._Tried:
    compression = Compression(channels=channels, sparsity=0.0).model_copy(update=settings)
    found = Found(
        channels=channels,
        sparsity=compression.sparsity,
        method=compression.method,
        auroc=auroc,
        size=size,
        transfer=round(size * (1 - compression.sparsity)),
        latency=size / 100,
        fits=fits,
    )
    return search._Tried(found, compression)


def test_the_best_that_fits_is_taken_and_the_front_is_what_nothing_beats() -> None:
    budget = Budget(size=250)
    all_tried = [
        tried(1.0, 0.99, 400, fits=False),
        tried(0.5, 0.97, 200),
        tried(0.375, 0.98, 150),
        tried(0.25, 0.90, 100),
    ]
    table, compression = search._concluded(budget, all_tried)
    assert compression.channels == 0.375
    assert [found.best for found in table] == [True, False, False, False]
    assert {found.channels for found in table if found.front} == {1.0, 0.375, 0.25}


def test_a_smaller_transfer_decides_between_equals() -> None:
    pair = [tried(0.5, 0.97, 200), tried(0.5, 0.97, 200, sparsity=0.5)]
    assert search._concluded(Budget(size=250), pair)[1].sparsity == 0.5


def test_where_nothing_fits_the_least_excess_is_taken() -> None:
    pair = [tried(1.0, 0.99, 400, fits=False), tried(0.25, 0.7, 150, fits=False)]
    table, compression = search._concluded(Budget(size=100), pair)
    assert compression.channels == 0.25 and not table[0].fits


def test_what_cannot_fit_is_not_trained_and_additions_come_to_the_best_first() -> None:
    done: list[search._Tried] = []
    order = []
    scores = {1.0: 0.99, 0.5: 0.9, 0.25: 0.95}
    for compression in search._combinations(Compression(sparsity=0.3), [0.5, 0.25], done):
        order.append((compression.channels, compression.sparsity, compression.method[:4]))
        own = {"sparsity": compression.sparsity, "method": compression.method}
        done.append(tried(compression.channels, scores[compression.channels], 10, **own))
    assert order[:5] == [
        (1.0, 0.0, "post"),
        (0.5, 0.0, "post"),
        (0.25, 0.0, "post"),
        (0.25, 0.3, "post"),
        (0.5, 0.3, "post"),
    ]
    assert set(order[5:]) == {(share, sparsity, "quan") for share in (0.25, 0.5) for sparsity in (0.0, 0.3)}


def test_a_budget_that_cannot_be_met_leaves_the_best_found_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    for label, value in (("normal", 60), ("spot", 180)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(14):
            picture = np.clip(random.normal(value, 30, (28, 28)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(tmp_path / "data" / label / f"{number}.png"), picture)
    monkeypatch.setattr(search, "SHARES", (1.0, 0.25))
    run = tmp_path / "run"
    arguments = ["--data", str(tmp_path / "data"), "--out", str(run), "--epochs", "1"]
    limits = "size=1kB,latency=9ms,target=raspberry-pi-4,minutes=0.001"
    result = CliRunner().invoke(command, [*arguments, "--budget", limits], standalone_mode=False)
    assert isinstance(result.exception, ScanwrightError), result.output
    assert result.exception.exit_code == 1
    said = str(result.exception)
    assert "nothing that was tried meets the budget (size 1 kB, latency 9 ms on raspberry-pi-4)" in said
    assert "25% of the channels" in said and str(run) in said
    metrics = json.loads((run / "metrics.json").read_text())
    assert [found["channels"] for found in metrics["tried"]] == [0.25, 1.0]
    assert metrics["tried"][0]["size"] == (run / "int8.tflite").stat().st_size
    assert metrics["budget"]["size"] == 1000
    html = (run / "report.html").read_text()
    assert "Nothing that was tried fits" in html and "latency factor: an estimate" in html
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["provenance"]["recipe"]["compression"]["channels"] == 0.25


def test_a_malformed_budget_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    arguments = ["--data", str(tmp_path / "absent"), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(command, [*arguments, "--budget", "sise=1kB"], standalone_mode=False)
    assert isinstance(result.exception, BadInputError) and "unknown key 'sise'" in str(result.exception)
    assert not (tmp_path / "run").exists()
