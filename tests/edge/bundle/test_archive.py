from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bundle import archive
from edge.bundle.archive import BundleError, bundle_file_name, open_bundle, write_bundle


def seal(data: bytes) -> bytes:
    return data[:-64] + hashlib.sha256(data[:-64]).hexdigest().encode()


def packed(members: list[tuple[str, bytes]]) -> bytes:
    """A ZIP of any members, sealed as a bundle is."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members:
            file.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        file.comment = b"scanwright bundle sha256:" + b"0" * 64
    return seal(buffer.getvalue())


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def test_what_is_written_is_read_back(tmp_path, tiny_bundle, tiny_manifest, tiny_members) -> None:
    path = tiny_bundle(tmp_path / "deep" / "tiny.swb")
    bundle = open_bundle(path)
    assert bundle.manifest.model_copy(update={"members": {}}) == tiny_manifest()
    assert {name: bundle.member(name) for name in bundle.names if name != "manifest.json"} == tiny_members()
    assert set(bundle.manifest.members) == set(tiny_members())
    assert bundle.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert bundle.size == path.stat().st_size
    assert [p.name for p in path.parent.iterdir()] == ["tiny.swb"]
    with pytest.raises(BundleError, match=r"no member 'model\.onnx'"):
        bundle.member("model.onnx")


def test_same_inputs_give_the_same_bytes(tmp_path, tiny_manifest, tiny_members) -> None:
    members = tiny_members()
    first = write_bundle(tmp_path / "a.swb", tiny_manifest(), members)
    second = write_bundle(tmp_path / "b.swb", tiny_manifest(), dict(reversed(members.items())))
    assert first.read_bytes() == second.read_bytes()


def test_a_change_of_any_byte_is_refused(tmp_path, tiny_manifest, tiny_members) -> None:
    # Small members keep this fast: a bundle is opened before its model is looked into.
    members = {name: bytes(range(100)) for name in tiny_members()}
    path = write_bundle(tmp_path / "small.swb", tiny_manifest(), members)
    good, changed = path.read_bytes(), tmp_path / "changed.swb"
    blamed = set()
    for position in range(len(good)):
        data = bytearray(good)
        data[position] ^= 1 << position % 8
        changed.write_bytes(data)
        with pytest.raises(BundleError) as refusal:
            open_bundle(changed)
        message = str(refusal.value)
        assert message.startswith(f"{changed}: ") and "\n" not in message
        assert "archive structure" in message or "member '" in message
        blamed |= {name for name in members if f"member '{name}' is damaged" in message}
    assert blamed == set(members)


@pytest.mark.parametrize("name", ["model.tflite", "labels.txt", "golden.npz", "MODEL_CARD.md"])
def test_an_exchanged_member_is_refused_by_name(tmp_path, tiny_bundle, name) -> None:
    members = contents(tiny_bundle(tmp_path / "tiny.swb"))
    members[name] += b"x"
    (tmp_path / "changed.swb").write_bytes(packed(list(members.items())))
    with pytest.raises(BundleError, match=f"member '{name}' is not the one"):
        open_bundle(tmp_path / "changed.swb")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("labels.txt", b"again"), "'labels.txt' stands twice"),
        (("../../etc/passwd", b"x"), "is no member"),
        (("readme.txt", b"x"), "'readme.txt' is no member"),
        (("model.onnx", b"x"), "names other members"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_do_not_belong_are_refused(tmp_path, tiny_bundle, extra, message) -> None:
    members = list(contents(tiny_bundle(tmp_path / "tiny.swb")).items())
    (tmp_path / "changed.swb").write_bytes(packed([*members, extra]))
    with pytest.raises(BundleError, match=message):
        open_bundle(tmp_path / "changed.swb")


def test_a_missing_member_is_named(tmp_path, tiny_manifest, tiny_members) -> None:
    members = tiny_members()
    del members["golden.npz"]
    with pytest.raises(BundleError, match=r"'golden\.npz' is missing"):
        write_bundle(tmp_path / "tiny.swb", tiny_manifest(), members)
    without_gate = {name: data for name, data in tiny_members().items() if name != "ood.npz"}
    write_bundle(tmp_path / "tiny.swb", tiny_manifest(), without_gate)
    with pytest.raises(BundleError, match=r"no 'ood\.npz'"):
        open_bundle(tmp_path / "tiny.swb")


def test_sizes_are_refused_before_anything_is_unpacked(tmp_path, tiny_bundle, monkeypatch) -> None:
    members = contents(tiny_bundle(tmp_path / "tiny.swb"))
    members["MODEL_CARD.md"] = bytes(50 << 20)
    bomb = tmp_path / "bomb.swb"
    bomb.write_bytes(packed(list(members.items())))
    assert bomb.stat().st_size < 200_000
    with pytest.raises(BundleError, match=r"'MODEL_CARD\.md' is larger than 1 MiB"):
        open_bundle(bomb)
    monkeypatch.setattr(archive, "_LARGEST_FILE", 1000)
    with pytest.raises(BundleError, match="not a bundle"):
        open_bundle(tmp_path / "tiny.swb")


def test_files_that_are_no_bundle_get_one_clear_line(tmp_path, tiny_bundle) -> None:
    good = tiny_bundle(tmp_path / "tiny.swb").read_bytes()
    cases = {
        "empty.swb": (b"", "empty"),
        "text.swb": (b"hello\n" * 100, "not a bundle"),
        "short.swb": (good[: len(good) // 2], "cut short"),
        "longer.swb": (good + b"\0", "archive structure|not a bundle"),
        "plain.swb": (packed([("a.txt", b"a")]), "no member of a bundle"),
    }
    for name, (data, message) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BundleError, match=message) as refusal:
            open_bundle(tmp_path / name)
        assert refusal.value.exit_code == 2
        assert str(refusal.value).startswith(str(tmp_path / name))
    with pytest.raises(BundleError, match="No such file"):
        open_bundle(tmp_path / "absent.swb")
    with pytest.raises(BundleError, match="directory"):
        open_bundle(tmp_path)


def test_a_manifest_that_does_not_fit_names_the_field(tmp_path, tiny_bundle) -> None:
    members = contents(tiny_bundle(tmp_path / "tiny.swb"))
    members["manifest.json"] = members["manifest.json"].replace(b'"task"', b'"tusk"')
    (tmp_path / "changed.swb").write_bytes(packed(list(members.items())))
    with pytest.raises(BundleError, match=r"manifest\.json: tusk: unknown key; did you mean 'task'"):
        open_bundle(tmp_path / "changed.swb")


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=400), sealed=st.booleans())
def test_no_bytes_are_taken_for_a_bundle(tmp_path_factory, data, sealed) -> None:
    path = tmp_path_factory.mktemp("any") / "any.swb"
    data = b"PK\x03\x04" + data + b"PK\x05\x06" + bytes(16) + b"\x59\x00scanwright bundle sha256:" + bytes(64)
    path.write_bytes(seal(data) if sealed else data)
    with pytest.raises(BundleError):
        open_bundle(path)


def test_the_file_name_says_what_is_inside(tiny_manifest) -> None:
    assert bundle_file_name(tiny_manifest()) == "tiny-1.0.0-raspberry-pi-5.swb"
