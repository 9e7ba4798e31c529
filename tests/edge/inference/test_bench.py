from __future__ import annotations

import json

import pytest

from edge.bundle.archive import open_bundle
from edge.cli import main
from edge.errors import ScanwrightError
from edge.inference import bench as module

KEYS = {
    *("interpreter_ms", "pipeline_ms", "full_ms", "pipeline_ratio", "full_ratio", "cold_start_s", "rss_mb"),
    *("threads", "kernel"),
}


@pytest.fixture(autouse=True)
def short(monkeypatch) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.2)
    monkeypatch.setattr(module, "_COLD_STARTS", 1)


def test_the_figures_are_those_of_the_design(tmp_path, tiny_bundle, capsys) -> None:
    path = tiny_bundle(tmp_path / "tiny.swb")
    with pytest.raises(SystemExit) as end:
        main(["bench", str(path), "--json", "-"])
    assert end.value.code == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == KEYS
    assert 0 < result["interpreter_ms"] < result["pipeline_ms"] < result["full_ms"]
    assert result["pipeline_ratio"] == pytest.approx(
        result["pipeline_ms"] / result["interpreter_ms"], rel=0.05
    )
    assert 0.05 < result["cold_start_s"] < 30
    assert 20 < result["rss_mb"] < 150
    assert result["threads"] == 1 and "ai-edge-litert" in result["kernel"]


def test_the_new_process_loads_neither_trainer_nor_tensorflow(tmp_path, tiny_bundle, monkeypatch) -> None:
    heavy = "import sys; loaded = {n.partition('.')[0] for n in sys.modules}; "
    check = heavy + "sys.exit(str(loaded & {'tensorflow', 'trainer', 'starlette', 'pydicom'}))"
    monkeypatch.setattr(module, "_COLD_START", f"{module._COLD_START}; {check}")
    with pytest.raises(ScanwrightError, match=r"set\(\)$"):
        module.bench(open_bundle(tiny_bundle(tmp_path / "tiny.swb")))


def test_a_process_that_comes_to_no_finding_is_reported(tmp_path, tiny_bundle, monkeypatch) -> None:
    monkeypatch.setattr(module, "_COLD_START", "raise SystemExit('no memory')")
    with pytest.raises(ScanwrightError, match="came to no finding: no memory"):
        module.bench(open_bundle(tiny_bundle(tmp_path / "tiny.swb")))
