"""Attacks on a release repository, served from memory: each is refused by its name, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from releases import DAYS, Releases
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface

from edge.errors import BadInputError
from edge.update.client import Repository, Trust
from edge.update.release import Device, RefusedError, choose

DEVICE = Device(site="clinic", device="cart-1", target="raspberry-pi-5")


class Memory(FetcherInterface):
    """Serves files from memory; of those in ``endless`` bytes without an end."""

    def __init__(self, files: dict[str, bytes], endless: str | None = None) -> None:
        self.files, self.endless = files, endless
        self.served = 0

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.removeprefix("memory/")
        if self.endless is not None and self.endless in name:
            return self._without_end()
        if name not in self.files:
            raise DownloadHTTPError(name, 404)
        return iter([self.files[name]])

    def _without_end(self) -> Iterator[bytes]:
        while True:
            self.served += 1 << 16
            yield b" " * (1 << 16)


class Cart:
    """A device's trust, and what it makes of files."""

    def __init__(self, folder: Path, root: Path, now: Callable[[], datetime] | None = None) -> None:
        self.folder, self.root = folder, root
        self.now = now or (lambda: datetime.now(timezone.utc))

    def take(self, files: dict[str, bytes], version: str | None = None, endless: str | None = None) -> bytes:
        """Fetch the newest, or a version, and give its bytes."""
        trust = Trust(self.folder, self.root, self.now)
        repository = Repository("memory", trust, Memory(files, endless))
        release = choose(repository.releases(), DEVICE, "tiny", version)
        path = self.folder / "taken"
        repository.download(release, path)
        return path.read_bytes()

    def refuses(self, files: dict[str, bytes], version: str | None = None) -> str:
        with pytest.raises(RefusedError) as refusal:
            self.take(files, version)
        assert "\n" not in str(refusal.value)
        return refusal.value.code


@pytest.fixture
def releases(tmp_path, tiny_bundle):
    (tmp_path / "hq").mkdir()
    return Releases(tmp_path / "hq", tiny_bundle)


@pytest.fixture
def cart(tmp_path, releases):
    return Cart(tmp_path / "cart", releases.root)


def target_of(files: dict[str, bytes], version: str) -> str:
    (name,) = (name for name in files if name.startswith("targets/") and f"-{version}-" in name)
    return name


def test_what_was_published_is_taken_and_the_newest_first(cart, releases):
    old, new = releases.bundle("1.9.0"), releases.bundle("1.10.0")
    assert cart.take(releases.files()) == new.read_bytes()
    assert cart.take(releases.files(), "1.9.0") == old.read_bytes()
    assert cart.refuses(releases.files(), "3.0.0") == "not_found"


def test_an_altered_target_is_refused(cart, releases):
    releases.bundle("1.0.0")
    files = releases.files()
    name = target_of(files, "1.0.0")
    files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])
    assert cart.refuses(files) == "altered"
    assert not (cart.folder / "taken").exists()


@pytest.mark.parametrize("role", ["2.root", "2.targets", "2.snapshot", "timestamp"])
def test_altered_metadata_is_refused(cart, releases, role):
    releases.bundle("1.0.0")
    releases.keys.rotate("timestamp", None, ())
    releases.publish()
    files, name = releases.files(), f"metadata/{role}.json"
    assert b'"expires":"20' in files[name]
    files[name] = files[name].replace(b'"expires":"20', b'"expires":"21')
    assert cart.refuses(files) in ("unknown_key", "altered")


def test_a_repository_of_unknown_keys_is_refused(cart, releases, tmp_path, tiny_bundle):
    (tmp_path / "else").mkdir()
    stranger = Releases(tmp_path / "else", tiny_bundle)
    stranger.bundle("9.0.0")
    assert cart.refuses(stranger.files()) == "unknown_key"
    # Nor if they bring their own root as the next one.
    releases.bundle("1.0.0")
    files = releases.files()
    stranger.keys.rotate("targets", None, ())
    files["metadata/2.root.json"] = (stranger.folder / "keys/2.root.json").read_bytes()
    assert cart.refuses(files) == "unknown_key"


def test_too_few_signatures_are_refused(cart, releases):
    releases.bundle("1.0.0")
    releases.keys.rotate("targets", None, ())
    releases.publish()
    files = releases.files()
    data = json.loads(files["metadata/2.root.json"])
    data["signatures"] = data["signatures"][:1]
    files["metadata/2.root.json"] = json.dumps(data).encode()
    assert cart.refuses(files) == "unknown_key"


def test_rolled_back_metadata_is_refused_also_after_the_cache_was_wiped(cart, releases, tmp_path):
    releases.bundle("1.0.0")
    old = releases.files()
    releases.bundle("1.1.0")
    cart.take(releases.files())
    assert cart.refuses(old) == "rolled_back"
    for path in sorted((cart.folder / "tuf").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert cart.refuses(old) == "rolled_back"
    assert cart.take(releases.files()) == (releases.folder / "tiny-1.1.0.swb").read_bytes()
    # The test tells the floor's work from the cache's: without both the old one is taken.
    fresh = Cart(tmp_path / "fresh", releases.root)
    assert fresh.take(old) == (releases.folder / "tiny-1.0.0.swb").read_bytes()


def test_a_damaged_floor_is_no_floor_of_zero(cart, releases):
    releases.bundle("1.0.0")
    cart.take(releases.files())
    (cart.folder / "floor.json").write_text("{")
    with pytest.raises(BadInputError, match=r"floor\.json"):
        cart.take(releases.files())


@pytest.mark.parametrize("older", ["snapshot", "targets"])
def test_parts_of_two_states_are_refused(cart, releases, older):
    releases.bundle("1.0.0")
    old = releases.files()
    releases.bundle("1.1.0")
    mixed = releases.files()
    mixed[f"metadata/2.{older}.json"] = old[f"metadata/1.{older}.json"]
    assert cart.refuses(mixed) in ("altered", "rolled_back")


def test_what_has_run_out_is_refused_even_where_the_clock_stands_still(tmp_path, releases):
    releases.bundle("1.0.0")
    later = datetime.now(timezone.utc) + timedelta(days=DAYS + 1)
    cart = Cart(tmp_path / "cart", releases.root, lambda: later)
    assert cart.refuses(releases.files()) == "expired"
    releases.publish(days=DAYS + 10)
    assert cart.take(releases.files())


@pytest.mark.parametrize(
    "what", ["timestamp.json", "2.root.json", "1.snapshot.json", "1.targets.json", ".swb"]
)
def test_data_without_an_end_is_refused_after_a_bounded_part(cart, releases, what):
    releases.bundle("1.0.0")
    memory = Memory(releases.files(), endless=what)
    with pytest.raises(RefusedError) as refusal:
        repository = Repository("memory", Trust(cart.folder, cart.root), memory)
        repository.download(choose(repository.releases(), DEVICE, "tiny", None), cart.folder / "taken")
    assert refusal.value.code == "too_large"
    assert memory.served <= 6 << 20


def test_a_release_for_another_device_site_or_board_is_refused_by_its_reason(cart, releases, tmp_path):
    def made(version: str, **changes: object) -> Path:
        return releases._bundle(tmp_path / f"{version}.swb", version=version, **changes)

    releases.publish(made("1.0.0", target="jetson-orin-nano"))
    releases.publish(made("1.1.0"), sites=["hospital"])
    releases.publish(made("1.2.0"), devices=["clinic/cart-2"])
    releases.publish(made("0.9.0"), sites=["clinic"], devices=["clinic/cart-1"])
    files = releases.files()
    codes = {version: cart.refuses(files, version) for version in ("1.0.0", "1.1.0", "1.2.0")}
    assert codes == {"1.0.0": "other_target", "1.1.0": "other_site", "1.2.0": "other_device"}
    assert cart.take(files) == (tmp_path / "0.9.0.swb").read_bytes()


def test_a_stolen_key_is_of_no_use_after_its_rotation(cart, releases):
    releases.bundle("1.0.0")
    cart.take(releases.files())
    # Whoever has the keys signs a state far ahead of all to come.
    before = releases.files()
    for _ in range(5):
        releases.publish()
    ahead = releases.files()
    cart.take(ahead)
    for name in ("timestamp", "snapshot", "targets"):
        releases.keys.rotate(name, None, ())
    for path in (releases.repository / "metadata").iterdir():
        path.unlink()
    for name, data in before.items():
        (releases.repository / name).write_bytes(data)
    new = releases.bundle("1.1.0")
    assert cart.take(releases.files()) == new.read_bytes()
    assert cart.refuses(ahead) == "unknown_key"


def test_a_lost_root_key_is_replaced_by_the_two_others_and_not_by_one(cart, releases, tmp_path):
    releases.bundle("1.0.0")
    cart.take(releases.files())
    away = tmp_path / "away"
    away.mkdir()
    keys = releases.folder / "keys"
    (keys / "root-2.key").unlink()
    (keys / "root-3.key").rename(away / "root-3.key")
    with pytest.raises(BadInputError, match="must sign"):
        releases.keys.rotate("root-2", None, ())
    assert releases.keys.rotate("root-2", None, [away]).name == "2.root.json"
    releases.bundle("1.1.0")
    assert cart.take(releases.files()) == (releases.folder / "tiny-1.1.0.swb").read_bytes()
