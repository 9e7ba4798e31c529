"""What lies in a slot is whole, or is not used."""

from __future__ import annotations

import errno
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from edge.errors import BadInputError
from edge.update.launch import State, write_state
from edge.update.package import MANIFEST, PROGRAM, pack_agent, read_agent, unpack_agent, verify_agent
from edge.update.release import Custom, RefusedError, Release
from edge.update.slots import BUNDLE, Slot


def release(data: bytes, version: str = "1.0.0", kind: str = "bundle") -> Release:
    custom = Custom(kind=kind, name="tiny" if kind == "bundle" else "agent", version=version, target=None)
    return Release(path="x", length=len(data), sha256=hashlib.sha256(data).hexdigest(), custom=custom)


def put(slot: Slot, data: bytes, version: str = "1.0.0") -> str:
    return slot.install(release(data, version), lambda path: path.write_bytes(data) and None)


@pytest.fixture
def slot(tmp_path):
    return Slot(tmp_path / "slots", "tiny")


def test_a_version_lies_beside_the_others_and_is_used_once_the_state_says_so(slot, tmp_path):
    first = put(slot, b"one")
    slot.put(State(current=first))
    second = put(slot, b"two", "1.1.0")
    assert slot.state.used == first and slot.whole(first) and slot.whole(second)
    slot.put(slot.state.begin(second))
    assert Slot(tmp_path / "slots", "tiny").state.used == second
    assert slot.release(second).custom.version == "1.1.0"


def test_what_no_state_names_is_removed_and_the_previous_never(slot):
    names = []
    for number in range(4):
        names.append(put(slot, b"%d" % number, f"1.{number}.0"))
        slot.put(slot.state.begin(names[-1]).commit())
    put(slot, b"next", "1.9.0")
    there = {path.name for path in (slot.folder / "versions").iterdir()}
    assert there == {names[2], names[3], there.difference(names).pop()}


def test_a_download_that_fails_leaves_everything_as_it_was(slot):
    slot.put(State(current=put(slot, b"one")))

    def broken(path: Path) -> None:
        path.write_bytes(b"tw")
        raise RefusedError("unreachable", "broke off")

    with pytest.raises(RefusedError, match="broke off"):
        slot.install(release(b"two", "1.1.0"), broken)
    assert slot.whole(slot.state.used)
    assert slot.whole(put(slot, b"two", "1.1.0"))


def test_a_disk_that_gives_back_something_else_is_noticed_before_anything_uses_it(slot):
    with pytest.raises(RefusedError) as refusal:
        slot.install(release(b"one"), lambda path: path.write_bytes(b"onx") and None)
    assert refusal.value.code == "damaged"


def test_a_full_disk_is_said_and_may_pass(slot):
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RefusedError) as refusal:
        slot.install(release(b"one"), full)
    assert refusal.value.code == "no_room"


def test_damage_after_the_installation_is_noticed_and_repaired(slot):
    name = put(slot, b"one")
    (slot.path(name) / BUNDLE).write_bytes(b"onx")
    assert not slot.whole(name)
    assert put(slot, b"one") == name and slot.whole(name)


def test_a_damaged_state_leaves_the_newest_that_is_whole(slot, tmp_path):
    old, new, newest = put(slot, b"one"), "", ""
    write_state(slot.folder, State(current=old, previous=old))
    slot.state = State(current=old)
    new = put(slot, b"two", "1.10.0")
    slot.state = State(current=old, previous=new)
    newest = put(slot, b"six", "1.11.0")
    (slot.path(newest) / BUNDLE).write_bytes(b"sax")
    (slot.folder / "state.json").write_text("{")
    assert Slot(tmp_path / "slots", "tiny").state.used == new


def tree(folder: Path) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "lib").mkdir()
    (folder / PROGRAM).write_text("#!/bin/sh\n")
    (folder / PROGRAM).chmod(0o755)
    (folder / "lib/one.py").write_text("x = 1\n")
    return folder


def test_the_same_agent_gives_the_same_bytes_and_comes_out_as_it_went_in(tmp_path):
    source = tree(tmp_path / "tree")
    first = pack_agent(source, "0.2.0", "raspberry-pi-5", tmp_path / "a")
    (source / "lib/one.py").touch()
    second = pack_agent(source, "0.2.0", "raspberry-pi-5", tmp_path / "b")
    assert first.name == "agent-0.2.0-raspberry-pi-5.swa" and first.read_bytes() == second.read_bytes()
    assert read_agent(first).version == "0.2.0"
    unpack_agent(first, tmp_path / "out")
    assert verify_agent(tmp_path / "out").target == "raspberry-pi-5"
    assert (tmp_path / "out" / PROGRAM).stat().st_mode & 0o777 == 0o755
    (tmp_path / "out/lib/one.py").write_text("x = 2\n")
    with pytest.raises(BadInputError, match=r"one\.py"):
        verify_agent(tmp_path / "out")


def test_links_and_a_missing_program_are_no_agent(tmp_path):
    source = tree(tmp_path / "tree")
    (source / "lib/link").symlink_to("/etc/passwd")
    with pytest.raises(BadInputError, match="regular files only"):
        pack_agent(source, "0.2.0", None, tmp_path)
    (source / "lib/link").unlink()
    (source / PROGRAM).chmod(0o644)
    with pytest.raises(BadInputError, match="has no program"):
        pack_agent(source, "0.2.0", None, tmp_path)


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "lib/../../out", "agent.json", "lib//x"])
def test_a_package_writes_nowhere_else(tmp_path, name):
    source = tree(tmp_path / "tree")
    manifest = read_agent(pack_agent(source, "0.2.0", None, tmp_path / "a"))
    program = manifest.files[PROGRAM]
    data = manifest.model_copy(update={"files": {PROGRAM: program, name: program}}).model_dump_json().encode()
    path = tmp_path / "evil.swa"
    with tarfile.open(path, "w:xz") as archive:
        info = tarfile.TarInfo(MANIFEST)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    with pytest.raises(BadInputError, match="no name of a file"):
        unpack_agent(path, tmp_path / "unpacked")


def test_a_member_that_the_manifest_does_not_name_or_a_link_is_refused(tmp_path):
    source = tree(tmp_path / "tree")
    good = pack_agent(source, "0.2.0", None, tmp_path / "a")
    manifest = read_agent(good).model_dump_json().encode()
    for kind in (tarfile.SYMTYPE, tarfile.REGTYPE):
        path = tmp_path / "evil.swa"
        with tarfile.open(path, "w:xz") as archive:
            info = tarfile.TarInfo(MANIFEST)
            info.size = len(manifest)
            archive.addfile(info, io.BytesIO(manifest))
            member = tarfile.TarInfo("lib/one.py" if kind == tarfile.SYMTYPE else "lib/two.py")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        with pytest.raises(BadInputError, match="not what the manifest says"):
            unpack_agent(path, tmp_path / f"out-{kind!r}")
