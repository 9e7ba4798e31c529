"""The commands of whoever signs releases."""

from __future__ import annotations

import json
import stat

import pytest

from edge.cli import main
from edge.keys.release_cli import PASSPHRASE


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PASSPHRASE, "correct horse")

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        said = capsys.readouterr()
        return end.value.code, said.out, said.err

    return call


@pytest.fixture
def keys(run, tmp_path):
    assert run("keys", "release", "init", "--out", "keys")[0] == 0
    return tmp_path / "keys"


def test_keys_are_encrypted_for_their_owner_alone_and_not_made_twice(run, keys):
    for path in keys.glob("*.key"):
        assert b"ENCRYPTED" in path.read_bytes() and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(list(keys.glob("*.key"))) == 6
    code, _, error = run("keys", "release", "init", "--out", "keys")
    assert code == 2 and "is there already" in error
    code, _, error = run("keys", "release", "init", "--out", "other", "--root-keys", "1")
    assert code == 2 and "--threshold 2" in error


def test_keys_without_a_passphrase_are_warned_of(run, monkeypatch):
    monkeypatch.delenv(PASSPHRASE)
    code, _, error = run("keys", "release", "init", "--out", "open")
    assert code == 0 and "not encrypted" in error


def test_a_bundle_is_published_once_in_each_version(run, keys, tmp_path, tiny_bundle):
    tiny_bundle(tmp_path / "one.swb")
    publish = ("publish", "--repo", "repo", "--keys", "keys")
    code, out, _ = run(*publish, "one.swb", "--device", "clinic/cart-1")
    assert code == 0 and "tiny-1.0.0-raspberry-pi-5.swb: published" in out
    said = json.loads((tmp_path / "repo/metadata/1.targets.json").read_text())["signed"]["targets"]
    custom = said["tiny-1.0.0-raspberry-pi-5.swb"]["custom"]
    assert custom == {
        "schema_version": 1,
        "kind": "bundle",
        "name": "tiny",
        "version": "1.0.0",
        "target": "raspberry-pi-5",
        "sites": [],
        "devices": ["clinic/cart-1"],
    }
    assert run(*publish, "one.swb")[0] == 0  # the same again, now for everybody
    tiny_bundle(tmp_path / "two.swb", intended_use={"statement": "Something else."})
    code, _, error = run(*publish, "two.swb")
    assert code == 2 and "needs a new version" in error and error.count("\n") == 1


def test_what_cannot_be_published_is_named(run, keys, tmp_path, tiny_bundle, monkeypatch):
    publish = ("publish", "--repo", "repo", "--keys", "keys")
    (tmp_path / "text.swb").write_text("no bundle")
    (tmp_path / "text.swa").write_text("no agent")
    tiny_bundle(tmp_path / "agent.swb", name="agent")
    tiny_bundle(tmp_path / "one.swb")
    for arguments, words in (
        (("text.swb",), "not a bundle"),
        (("text.swa",), "no agent package"),
        (("gone.swb",), "cannot be read"),
        (("agent.swb",), "cannot be called 'agent'"),
        (("one.swb", "--device", "cart-1"), "SITE/DEVICE"),
        (("one.swb", "--site", "No Name"), "--site is a name"),
    ):
        code, _, error = run(*publish, *arguments)
        assert code == 2 and words in error and error.count("\n") == 1
    monkeypatch.setenv(PASSPHRASE, "wrong")
    code, _, error = run(*publish, "one.swb")
    assert code == 2 and "passphrase is wrong" in error
    code, _, error = run("publish", "--repo", "repo", "--keys", "nowhere")
    assert code == 2 and "keys release init" in error
    assert not (tmp_path / "repo").exists()


def test_a_key_that_publishing_lacks_is_named_with_what_to_do(run, keys, tmp_path):
    (keys / "snapshot.key").rename(tmp_path / "away.key")
    code, _, error = run("publish", "--repo", "repo", "--keys", "keys")
    assert code == 2 and "keys: snapshot.key" in error and "--with" not in error
    assert "keys release rotate snapshot" in error and not (tmp_path / "repo").exists()


def test_a_repository_of_other_keys_is_left_alone(run, keys, tmp_path):
    assert run("publish", "--repo", "repo", "--keys", "keys")[0] == 0
    before = (tmp_path / "repo/metadata/timestamp.json").read_bytes()
    assert run("keys", "release", "init", "--out", "others")[0] == 0
    code, _, error = run("publish", "--repo", "repo", "--keys", "others")
    assert code == 2 and "signed by other keys" in error
    assert (tmp_path / "repo/metadata/timestamp.json").read_bytes() == before


def test_a_rotation_needs_as_many_root_keys_as_the_threshold_says(run, keys, tmp_path):
    for name in ("root-1.key", "root-2.key"):
        (tmp_path / name).write_bytes((keys / name).read_bytes())
        (keys / name).unlink()
    code, _, error = run("keys", "release", "rotate", "targets", "--keys", "keys")
    assert code == 2 and "2 of the keys root-1, root-2, root-3 must sign, 1 are here" in error
    code, out, _ = run("keys", "release", "rotate", "targets", "--keys", "keys", "--with", str(tmp_path))
    assert code == 0 and "2.root.json" in out
    code, out, _ = run("keys", "release", "show", "--keys", "keys")
    assert code == 0 and "root 2" in out and out.count("elsewhere") == 2
    code, _, error = run("keys", "release", "rotate", "tragets", "--keys", "keys")
    assert code == 2 and "'tragets' is no key" in error
