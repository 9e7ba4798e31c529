"""Which wheels fit a release, and that a package is what it is made of and nothing else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edge.bundle.target import target
from edge.errors import BadInputError, ScanwrightError
from trainer.flashing import wheels
from trainer.flashing.cart import Entry
from trainer.flashing.deb import Package, cart_package, write_package
from trainer.flashing.wheels import check_wheels, install, platforms

PI = target("raspberry-pi-5")
BOOKWORM = PI.release("bookworm")


def test_a_release_runs_wheels_for_its_own_and_older_glibc_alone():
    tags = platforms(PI, BOOKWORM)
    assert tags[0] == "manylinux_2_36_aarch64" and tags[-1] == "manylinux2014_aarch64"
    assert "manylinux_2_37_aarch64" not in tags and "manylinux_2_17_aarch64" in tags


@pytest.mark.parametrize(
    "name",
    [
        "numpy-2.4.6-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
        "cryptography-50.0.2-cp311-abi3-manylinux_2_34_aarch64.whl",
        "cryptography-50.0.2-cp38-abi3-manylinux2014_aarch64.whl",
        "click-8.5.1-py3-none-any.whl",
        "ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_aarch64.whl",
    ],
)
def test_a_wheel_that_fits_is_taken(tmp_path, name):
    (tmp_path / name).touch()
    check_wheels(tmp_path, PI, BOOKWORM)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl", "does not run on raspberry-pi-5"),
        ("numpy-2.4.6-cp313-cp313-manylinux_2_28_aarch64.whl", "does not run on raspberry-pi-5"),
        ("numpy-2.4.6-cp311-cp311-manylinux_2_39_aarch64.whl", "does not run on raspberry-pi-5"),
        ("numpy-2.4.6-cp311-cp311-musllinux_1_2_aarch64.whl", "does not run on raspberry-pi-5"),
        ("numpy-2.4.6-cp311-cp311-win_arm64.whl", "does not run on raspberry-pi-5"),
        ("numpy.whl", "is not named as a wheel is"),
    ],
)
def test_a_wheel_for_another_machine_is_refused_by_name(tmp_path, name, words):
    (tmp_path / "click-8.5.1-py3-none-any.whl").touch()
    (tmp_path / name).touch()
    with pytest.raises(BadInputError, match=f"{name}: {words}"):
        check_wheels(tmp_path, PI, BOOKWORM)


def test_wheels_that_lack_a_requirement_are_named(tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "nothing-1.0-py3-none-any.whl").touch()
    with pytest.raises(ScanwrightError, match=r"wheels: these wheels are not complete \(No matching"):
        install(wheels, PI, BOOKWORM, tmp_path / "site")


def test_a_folder_without_wheels_is_named(tmp_path):
    with pytest.raises(BadInputError, match="no wheels here"):
        check_wheels(tmp_path, PI, BOOKWORM)


def contents(path: Path) -> dict[str, str]:
    said = subprocess.run(["dpkg-deb", "-c", path], capture_output=True, text=True, check=True).stdout
    return {line.split()[5]: " ".join(line.split()[:5]) for line in said.splitlines()}


def test_a_package_has_the_files_modes_and_owners_that_it_was_given_and_the_same_bytes_again(tmp_path):
    package = Package("scanwright-x", "all", "systemd", "something", {"postinst": "true\n"})
    made = []
    for name in ("a", "b"):
        out, root = tmp_path / name, tmp_path / name / "root"
        (root / "opt/x").mkdir(parents=True)
        for number in range(20) if name == "a" else reversed(range(20)):
            (root / f"opt/x/{number}").write_text("x" * number)
            os.chmod(root / f"opt/x/{number}", 0o600 if name == "a" else 0o777)  # noqa: PTH101
        entries = {"/etc/scanwright/key.pem": Entry(b"secret", 0o600), "/usr/lib/y": Entry(b"y", 0o755)}
        path = write_package(package, root, entries, out, {"/opt/x/3"})
        made.append(path.read_bytes())
        listed = contents(path)
        assert listed["./etc/scanwright/key.pem"].startswith("-rw------- root/root 6 ")
        assert listed["./usr/lib/y"].startswith("-rwxr-xr-x root/root")
        assert listed["./opt/x/3"].startswith("-rwxr-xr-x") and listed["./opt/x/4"].startswith("-rw-r--r--")
        assert not list(out.glob(".*.part"))
    assert made[0] == made[1]


def test_nothing_of_a_package_lies_in_a_folder_that_debian_has_merged_away(tmp_path):
    path = cart_package({"/etc/scanwright/agent.yaml": Entry(b"x")}, True, True, tmp_path)
    assert {name.split("/")[1] for name in contents(path)} <= {"", "etc", "opt", "usr"}
    said = subprocess.run(
        ["dpkg-deb", "-f", path, "Depends"], capture_output=True, text=True, check=True
    ).stdout
    assert "wpasupplicant" in said and "nftables" in said
    assert "chromium | chromium-browser, labwc" in said
    assert path.stat().st_mode & 0o777 == 0o600


def test_every_script_of_a_package_is_one_that_a_shell_takes(tmp_path):
    path = cart_package({"/etc/x": Entry(b"x")}, False, False, tmp_path)
    subprocess.run(["dpkg-deb", "-e", path, tmp_path / "control"], check=True)
    for name in ("postinst", "prerm", "postrm"):
        subprocess.run(["sh", "-n", tmp_path / "control" / name], check=True)


def test_of_two_runs_that_fetch_the_same_wheels_both_have_them(tmp_path, monkeypatch):
    folder = tmp_path / "wheels"

    def download(*arguments: object) -> None:
        for place in (folder, Path(str(arguments[arguments.index("-d") + 1]))):  # the other run ends first
            place.mkdir()
            (place / "x.whl").touch()

    monkeypatch.setattr(wheels, "_pip", download)
    assert wheels.fetch(PI, BOOKWORM, folder) == folder
    assert [path.name for path in tmp_path.rglob("*")] == ["wheels", "x.whl"]
