"""The agent's Python environment for another machine: which wheels fit, where they come from, unpacked."""

from __future__ import annotations

import compileall
import py_compile
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from edge.bundle.target import Release, Target
from edge.errors import BadInputError, ScanwrightError

__all__ = ["check_wheels", "fetch", "install", "platforms"]

_OWN = ("edge", "trainer", "firmware_configs")
# What no cart ever loads, and why. A wheel's own tests, headers and stubs are for those who build upon it.
_USELESS = {
    "built upon or tested on another machine": (
        "**/*.pyi",
        "**/*.a",
        "jpeg_ls/tests",
        "numpy/**/tests",
        "numpy/_core/include",
        "numpy/distutils",
        "numpy/f2py",
        "pydicom/data/test_files",
        "pynetdicom/apps",
        "pynetdicom/tests",
        "securesystemslib/_vendor/ed25519/test_data",
    ),
    "the same library under its other names; the one that is loaded is kept": (
        "_gdcm/lib*.so",
        "_gdcm/lib*.so.*.*.*",
    ),
    "programs and their tables": ("bin", "_gdcm/XML", "_gdcm/gdcm*[!y]"),
    "another accelerator, and tools for other vendors' chips": (
        "ai_edge_litert/libLiteRt*.so",
        "ai_edge_litert/tools",
        "ai_edge_litert/vendors",
    ),
    "JPEG-LS a second time: gdcm decodes it": ("_CharLS.*",),
    "face detectors, pictures of the web, the phone app": (
        "cv2/data/*.xml",
        "PIL/_avif.*",
        "pillow.libs/libavif-*",
        "edge/phone/static",
    ),
    "colours for program text": ("pygments/lexers/[!_]*",),
    "names where files were on the machine that unpacked them": (
        "*.dist-info/RECORD",
        "*.dist-info/direct_url.json",
    ),
}
_OLDEST_GLIBC = 17  # manylinux2014 is glibc 2.17; older tags are of no wheel that the agent needs


def platforms(board: Target, release: Release) -> list[str]:
    """The wheel platform tags that a release runs, newest first (PEP 600)."""
    newest = int(release.glibc.partition(".")[2])
    tags = [f"manylinux_2_{minor}_{board.architecture}" for minor in range(newest, _OLDEST_GLIBC - 1, -1)]
    return [*tags, f"manylinux2014_{board.architecture}"]


def fetch(board: Target, release: Release, folder: Path) -> Path:
    """Download the locked wheels into ``folder``, which becomes complete or stays as it was; its path.

    Raises:
        ScanwrightError: there is no network, or no wheel for this release.
    """
    # A checkout has the lock beside the packages, an installed wheel inside.
    inside = Path(str(files("trainer.flashing"))) / "requirements.txt"
    lock = inside if inside.exists() else Path(__file__).parents[2] / "requirements/edge.txt"
    with tempfile.TemporaryDirectory(dir=folder.parent) as given:
        part = Path(given) / folder.name
        _pip("download", "--quiet", "--require-hashes", "-r", lock, "-d", part, *_for(board, release))
        try:
            part.replace(folder)
        except OSError:
            if not folder.is_dir():  # else another run was first
                raise
    return folder


def check_wheels(folder: Path, board: Target, release: Release) -> None:
    """Refuse a folder with a wheel that the release cannot run, by name.

    Raises:
        BadInputError: a wheel is for another machine or Python, or there is none.
    """
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise BadInputError(f"{folder}: no wheels here; leave --wheels out to download them")
    fit = set(_tags(board, release))
    for wheel in wheels:
        try:
            _, _, _, tags = parse_wheel_filename(wheel.name)
        except InvalidWheelFilename as error:
            raise BadInputError(f"{wheel}: is not named as a wheel is") from error
        if not tags & fit:
            raise BadInputError(
                f"{wheel}: does not run on {board.name} with {release.name}"
                f" ({board.architecture}, Python {release.python}, glibc {release.glibc}); take it out"
            )


def install(wheels: Path, board: Target, release: Release, site: Path) -> None:
    """Unpack the agent's requirements, and scanwright itself, into the empty folder ``site``.

    The bytes depend on the wheels alone. Compiled files are made if this machine has the release's Python.

    Raises:
        BadInputError: see :func:`check_wheels`.
        ScanwrightError: a requirement is not among the wheels.
    """
    check_wheels(wheels, board, release)
    own = distribution("scanwright")
    wanted = [text for text in own.requires or () if "extra ==" not in text]
    given = ["--isolated", "--quiet", "--no-index", "--no-compile", *_for(board, release)]
    try:
        _pip("install", *given, "--find-links", wheels, "--target", site, *wanted)
    except ScanwrightError as error:
        raise ScanwrightError(f"{wheels}: these wheels are not complete ({error})") from error
    for name in _OWN:
        source = Path(str(files("edge"))).parent / name  # the three lie beside each other, however installed
        shutil.copytree(source, site / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    info = site / f"scanwright-{own.version}.dist-info"
    info.mkdir()
    for name in ("METADATA", "entry_points.txt"):
        (info / name).write_text(own.read_text(name) or own.read_text("PKG-INFO") or "", encoding="utf-8")
    for useless in {found for patterns in _USELESS.values() for one in patterns for found in site.glob(one)}:
        if useless.is_dir():
            shutil.rmtree(useless)
        else:
            useless.unlink(missing_ok=True)
    if f"3.{sys.version_info.minor}" == release.python:
        compileall.compile_dir(
            site,
            quiet=2,
            workers=0,
            stripdir=str(site),
            prependdir=f"/opt/scanwright/lib/python{release.python}/site-packages",
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def _for(board: Target, release: Release) -> list[str]:
    abi = f"cp{release.python.replace('.', '')}"
    given = ["--only-binary=:all:", "--python-version", release.python, "--implementation", "cp"]
    for name in (abi, "abi3", "none"):
        given += ["--abi", name]
    for name in platforms(board, release):
        given += ["--platform", name]
    return given


def _tags(board: Target, release: Release) -> Iterable[Tag]:
    version = tuple(map(int, release.python.split(".")))
    names = platforms(board, release)
    yield from cpython_tags(version, platforms=names)
    yield from compatible_tags(version, f"cp{release.python.replace('.', '')}", names)


def _pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise ScanwrightError((said or ["pip failed"])[-1].removeprefix("ERROR: "))
