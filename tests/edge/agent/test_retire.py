from __future__ import annotations

import os

import pytest

from edge.agent.retire import wipe


def test_a_wiped_file_is_overwritten_before_it_goes(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"key" * 700_000)
    with path.open("rb") as held:
        wipe(path)
        left = held.read()
    assert not path.exists()
    assert len(left) == 2_100_000 and b"keykey" not in left


def test_what_a_link_points_to_is_not_touched(tmp_path):
    target = tmp_path / "elsewhere"
    target.write_text("of somebody else")
    (tmp_path / "link").symlink_to(target)
    wipe(tmp_path / "link")
    assert target.read_text() == "of somebody else"
    assert not os.path.lexists(tmp_path / "link")


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        wipe(tmp_path / "none")
