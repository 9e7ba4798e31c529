from __future__ import annotations

import hashlib
import io
import os
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sites import site_keys

from edge.update.courier import (
    DELIVERY,
    Delivery,
    DeliveryFile,
    StickError,
    confirm,
    confirms,
    copy_checked,
    open_below,
    parcel_name,
    read_delivery,
    read_small,
    write_whole,
)

IDS = st.lists(st.text("0123456789abcdef/over", max_size=40), max_size=4)
PARCEL = "ab" * 16


def delivery(**files: DeliveryFile) -> Delivery:
    now = datetime.now(timezone.utc)
    return Delivery(made=now, headquarters=site_keys().public, carts=("clinic/cart-1",), files=files)


def described(data: bytes) -> DeliveryFile:
    return DeliveryFile(size=len(data), sha256=hashlib.sha256(data).hexdigest())


@given(IDS, st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_receipt_is_proven_by_the_parcels_token_alone(refused, token, other) -> None:
    receipt = confirm(PARCEL, refused, token)
    assert confirms(receipt, token)
    assert confirms(receipt, other) == (other == token)
    assert not confirms(receipt.model_copy(update={"refused": (*refused, "more")}), token)
    assert not confirms(receipt.model_copy(update={"parcel": "cd" * 16}), token)


def test_parcels_sort_by_their_number() -> None:
    names = [parcel_name(number, "ab" * 16) for number in (1, 2, 10, 100)]
    assert names == sorted(names)


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_whatever_lies_there_is_a_delivery_or_refused(tmp_path_factory, data) -> None:
    folder = tmp_path_factory.mktemp("stick")
    (folder / DELIVERY).write_bytes(data)
    with pytest.raises(StickError) as refusal:
        read_delivery(folder)
    assert refusal.value.code == "damaged" and "\n" not in str(refusal.value)


def test_no_delivery_is_none_and_a_whole_one_is_read(tmp_path) -> None:
    assert read_delivery(tmp_path) is None
    made = delivery(**{"repository/metadata/1.root.json": described(b"x")})
    (tmp_path / DELIVERY).write_text(made.model_dump_json())
    assert read_delivery(tmp_path) == made


@pytest.mark.parametrize("name", ["../secret", "/etc/shadow", "a/../../b", ".hidden", "a//b", "a/b/c/d/e"])
def test_a_delivery_names_no_file_elsewhere(tmp_path, name) -> None:
    (tmp_path / DELIVERY).write_text(delivery(**{name: described(b"x")}).model_dump_json())
    with pytest.raises(StickError, match="names a file that no stick has"):
        read_delivery(tmp_path)


def test_a_delivery_of_more_than_any_cart_takes_is_refused(tmp_path) -> None:
    large = DeliveryFile(size=512 << 20, sha256="0" * 64)
    (tmp_path / DELIVERY).write_text(delivery(**{f"f{n}": large for n in range(9)}).model_dump_json())
    with pytest.raises(StickError, match="GiB"):
        read_delivery(tmp_path)
    (tmp_path / DELIVERY).write_bytes(b" " * (5 << 20))
    with pytest.raises(StickError, match="larger than 4 MiB"):
        read_delivery(tmp_path)


def test_no_link_is_followed(tmp_path) -> None:
    stick, elsewhere = tmp_path / "stick", tmp_path / "elsewhere"
    stick.mkdir()
    elsewhere.mkdir()
    (elsewhere / "secret").write_bytes(b"secret")
    (stick / "folder").symlink_to(elsewhere)
    (stick / "file").symlink_to(elsewhere / "secret")
    for name in ("folder/secret", "file"):
        with pytest.raises(StickError, match="symbolic link"):
            read_small(stick, name)
    for name in ("../elsewhere/secret", str(elsewhere / "secret"), "", "folder/.."):
        with pytest.raises((StickError, OSError)):
            read_small(stick, name)
    os.mkfifo(stick / "pipe")
    (stick / "directory").mkdir()
    for name in ("pipe", "directory"):
        with pytest.raises((StickError, OSError)), open_below(stick, name):
            pass
    with pytest.raises(FileNotFoundError):
        read_small(stick, "nothing")


def test_a_copy_is_the_file_that_was_named_or_none(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    copy_checked(tmp_path, "file", described(b"abc"), tmp_path / "to" / "file")
    assert (tmp_path / "to" / "file").read_bytes() == b"abc"
    for other in (b"ab", b"abcd", b"abx"):
        with pytest.raises(StickError, match="write the stick again"):
            copy_checked(tmp_path, "file", described(other), tmp_path / "to" / "other")


class Pulled(io.BytesIO):
    """Gives some bytes and then fails, as a stick that is pulled."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise OSError(5, "Input/output error")
        return super().read(2)


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch) -> None:
    target = tmp_path / "parcels" / "one.age"
    with pytest.raises(OSError, match="Input/output"):
        write_whole(Pulled(b"abcdef"), target)
    assert list(tmp_path.rglob("*.age")) == [] and list(target.parent.iterdir()) == []
    write_whole(io.BytesIO(b"abcdef"), target)
    assert target.read_bytes() == b"abcdef"

    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        write_whole(io.BytesIO(b"other"), target)
    assert target.read_bytes() == b"abcdef"
