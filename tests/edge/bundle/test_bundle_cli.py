from __future__ import annotations

import json

import pytest

from edge.bundle.archive import open_bundle
from edge.cli import main


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert isinstance(end.value.code, int)
    return end.value.code


def test_inspect_prints_what_the_bundle_says(tmp_path, tiny_bundle, capsys) -> None:
    path = tiny_bundle(tmp_path / "tiny.swb")
    assert run("inspect", str(path)) == 0
    out = " ".join(capsys.readouterr().out.split())
    for text in ("Finds bright spots", "modality US", "normal, lesion", "32 x 32 x 1 int8", "lesion at 0.5"):
        assert text in out
    assert "Not a medical device" in out and "unsigned" in out


def test_inspect_writes_json_for_scripts(tmp_path, tiny_bundle, capsys) -> None:
    bundle = open_bundle(tiny_bundle(tmp_path / "tiny.swb"))
    assert run("inspect", str(bundle.path), "--json", "-") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["bundle_sha256"] == bundle.sha256
    assert answer["manifest"] == bundle.manifest.model_dump(mode="json")


def test_labels_and_statements_are_printed_as_they_are(tmp_path, tiny_bundle, capsys) -> None:
    use = {"statement": "Finds [bold]spots[/bold] and [/] more."}
    path = tiny_bundle(tmp_path / "tiny.swb", intended_use=use)
    assert run("inspect", str(path)) == 0
    assert "[bold]spots[/bold] and [/] more." in " ".join(capsys.readouterr().out.split())


def test_a_changed_bundle_gets_one_line_and_exit_2(tmp_path, tiny_bundle, capsys) -> None:
    path = tiny_bundle(tmp_path / "tiny.swb")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert run("inspect", str(path)) == 2
    streams = capsys.readouterr()
    assert streams.out == "" and streams.err.count("\n") == 1 and str(path) in streams.err


def test_targets_say_what_each_is_proven_on(capsys) -> None:
    assert run("targets") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "raspberry-pi-5" in out and "proven on" in out
    assert run("targets", "--json", "-") == 0
    listed = json.loads(capsys.readouterr().out)["targets"]
    assert {"jetson-orin-nano", "phone", "raspberry-pi-4", "raspberry-pi-5"} <= {t["name"] for t in listed}
    assert all(t["proven"] for t in listed)
