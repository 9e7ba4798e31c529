"""Partition tables: as sfdisk writes them, and whatever bytes there are."""

from __future__ import annotations

import io
import json

import pytest
from card_images import MIB, jetson_image, pi_image, root_tree, run
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import BadInputError
from trainer.flashing.partitions import extended, read_table


@pytest.mark.parametrize("make", [pi_image, jetson_image])
def test_what_sfdisk_wrote_is_read_as_sfdisk_reads_it(tmp_path, make):
    image = make(tmp_path / "card.img", root_tree(tmp_path / "root"))
    with image.open("rb") as file:
        table = read_table(file, image.stat().st_size)
    said = json.loads(run("sfdisk", "-J", image))["partitiontable"]
    assert table.scheme == {"dos": "mbr", "gpt": "gpt"}[said["label"]]
    assert [(p.start // 512, p.size // 512, p.kind) for p in table.partitions] == [
        (p["start"], p["size"], p["type"].lower().rjust(2, "0")) for p in said["partitions"]
    ]
    assert [p.name for p in table.partitions] == [p.get("name", "") for p in said["partitions"]]


def test_an_added_partition_is_one_to_sfdisk_and_the_root_reaches_up_to_it(tmp_path):
    image = pi_image(tmp_path / "card.img", root_tree(tmp_path / "root"))
    data = image.read_bytes()
    table = read_table(io.BytesIO(data), len(data))
    sector, new = extended(data[:512], table.partitions[1], 10 * MIB + 77, 64 * MIB)
    grown = sector + data[512:] + bytes(new.start + new.size - len(data))
    image.write_bytes(grown)
    said = json.loads(run("sfdisk", "-J", image))["partitiontable"]["partitions"]
    assert len(said) == 3 and said[2]["start"] * 512 == new.start == 55 * MIB
    assert (said[1]["start"] + said[1]["size"]) * 512 == new.start
    assert read_table(io.BytesIO(grown), len(grown)).partitions[2] == new


@pytest.mark.parametrize("at", [0x1FE, 512 + 20, 512 + 80, 1024 + 40])
def test_a_changed_gpt_is_refused(tmp_path, at):
    data = bytearray(jetson_image(tmp_path / "card.img", root_tree(tmp_path / "root")).read_bytes())
    data[at] ^= 0xFF
    with pytest.raises(BadInputError):
        read_table(io.BytesIO(bytes(data)), len(data))


@given(st.binary(max_size=1500), st.booleans())
def test_whatever_bytes_there_are_they_are_read_or_refused(data, signed):
    if signed and len(data) >= 512:
        data = data[:510] + b"\x55\xaa" + data[512:]
    try:
        table = read_table(io.BytesIO(data), len(data))
    except BadInputError:
        return
    assert table.partitions and all(p.start + p.size <= len(data) for p in table.partitions)
