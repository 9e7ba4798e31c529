"""The RUN folder is never overwritten and never half a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import BadInputError
from trainer.run import UNFINISHED, begin, check_free, write_run


def test_a_new_folder_is_made_and_an_empty_one_taken(tmp_path: Path) -> None:
    check_free(tmp_path / "a" / "b")
    check_free(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("result")
    with pytest.raises(BadInputError, match="is not empty; name another folder with --out"):
        check_free(tmp_path)
    with pytest.raises(BadInputError, match="cannot be used"):
        check_free(tmp_path / "old")


def test_the_manifest_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(Path, "write_bytes", lambda path, _: written.append(path.name))
    write_run(tmp_path, {"manifest.json": b"", "a": b"", "z": b""})
    assert written[-1] == "manifest.json" and len(written) == 3


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"gone: cannot be written to"):
        write_run(tmp_path / "gone", {"a": b""})


def test_an_unfinished_training_may_go_on_and_another_may_not_take_its_place(tmp_path: Path) -> None:
    folder, again = begin(tmp_path, {"seed": 1})
    assert folder == tmp_path / UNFINISHED and not again
    check_free(tmp_path)
    assert begin(tmp_path, {"seed": 1}) == (folder, True)
    with pytest.raises(BadInputError, match="is of a training with another recipe, seed, data or version"):
        begin(tmp_path, {"seed": 2})


def test_a_damaged_unfinished_training_is_named(tmp_path: Path) -> None:
    folder, _ = begin(tmp_path, {})
    (folder / "training.json").write_text("{")
    with pytest.raises(BadInputError, match=r"unfinished: cannot be used.*remove it to begin again"):
        begin(tmp_path, {})


def test_a_whole_run_keeps_nothing_of_its_progress(tmp_path: Path) -> None:
    begin(tmp_path, {})
    write_run(tmp_path, {"manifest.json": b""})
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
