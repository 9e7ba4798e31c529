"""Damaged inputs: no crash, no hang, no error but the one line that says what is wrong.

    python benchmarks/fuzz.py [--inputs 100000] [--worker 1000] [--seed 0] [--json FILE]
    python benchmarks/fuzz.py --coverage dicom [--inputs 100000]

Takes whole DICOM files, images, configurations, manifests, bundles and commands, and damages them: bits and
bytes changed, parts cut out, doubled, swapped with another file's, numbers put to extremes. ``inputs`` are
decoded in a process of their own for each kind, ``worker`` more (DICOM files and images) through the decoding
worker with its limits. The same seed gives the same inputs. Exit code 1 if any input crashed, hung (took
longer than ``LIMIT_S``) or raised what it must not, with the number that gives it again.
With ``--coverage`` Atheris (pip install atheris) looks for inputs of one kind that take new ways, instead.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

KINDS = ("dicom", "image", "config", "manifest", "bundle", "command")
SHARES = {"dicom": 0.4, "image": 0.2, "config": 0.1, "manifest": 0.1, "bundle": 0.1, "command": 0.1}
BUNDLE = Path(__file__).parents[1] / "trainer" / "demo" / "phantom.swb"
LIMIT_S = 10.0
MEMORY_BYTES = 3 << 30
DICOM = (
    "MR_small_RLE.dcm",
    "SC_rgb_small_odd.dcm",
    "CT_small.dcm",
    "JPEG2000.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_rle_2frame.dcm",
    "ExplVR_BigEnd.dcm",
)
CONFIG = """\
schema_version: 1
site: clinic-east
device: cart-07
state: /var/lib/scanwright
bundles: [/opt/bundles/portable-chest.swb]
allow_unsigned: true
sources:
  - {kind: folder, name: inbox, path: /srv/images}
  - {kind: capture, name: grabber, url: 0, every: 10}
  - {kind: dicom, name: xray, ae_title: CART07, callers: [PORTABLE1], port: 11112}
mqtt: {host: broker.example, port: 8883, tls: {ca: ca.pem}, receipts: true}
pacs: {host: pacs.example, ae_title: ARCHIVE}
"""
COMMAND = {
    "schema_version": 1,
    "correlation_id": "c-1",
    "issued_at": "2026-01-01T00:00:00Z",
    "nonce": "nonce-0001",
    "arguments": {"id": "0" * 32, "n": 1, "yes": True, "share": 0.5, "none": None},
}


def seeds(kind: str) -> list[bytes]:
    """Whole inputs of a kind."""
    if kind == "dicom":
        from pydicom.data import get_testdata_file

        return [Path(str(get_testdata_file(name, download=False))).read_bytes() for name in DICOM]
    if kind == "image":
        import cv2
        import numpy as np

        gray = np.random.default_rng(0).integers(0, 256, (24, 31), np.uint8)
        pictures = (
            gray,
            np.dstack([gray, gray.T[:24, :24].repeat(2, 1)[:, :31], gray]),
            gray.astype(np.uint16) * 99,
        )
        return [
            bytes(cv2.imencode(suffix, picture)[1])
            for suffix in (".png", ".jpg", ".bmp", ".tiff", ".pgm", ".ppm")
            for picture in pictures
            if not (suffix in (".jpg", ".bmp") and picture.dtype == np.uint16)
            and not (suffix == ".pgm" and picture.ndim == 3)
            and not (suffix == ".ppm" and picture.ndim == 2)
        ]
    if kind == "config":
        return [CONFIG.encode()]
    if kind == "command":
        return [json.dumps(COMMAND).encode()]
    if kind == "manifest":
        from edge.bundle.archive import open_bundle

        return [open_bundle(BUNDLE).manifest.model_dump_json().encode()]
    return [BUNDLE.read_bytes()]


def damaged(whole: list[bytes], random_: random.Random) -> bytes:
    """One of the inputs with up to eight damages, more of them near its start, where the headers are."""
    data = bytearray(random_.choice(whole))
    for _ in range(random_.randint(1, 8)):
        if not data:
            break
        reach = len(data) if random_.random() < 0.4 else min(len(data), 1500)
        at = random_.randrange(reach)
        match random_.randrange(7):
            case 0:
                data[at] ^= 1 << random_.randrange(8)
            case 1:
                data[at] = random_.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
            case 2:
                size = random_.choice((2, 4, 8))
                data[at : at + size] = random_.choice((b"\0", b"\xff", b"\x7f")) * size
            case 3:
                del data[at : at + random_.randint(1, 64)]
            case 4:
                data[at:at] = random_.randbytes(random_.randint(1, 32))
            case 5:
                other = random_.choice(whole)
                start = random_.randrange(len(other))
                data[at : at + 40] = other[start : start + random_.randint(1, 200)]
            case 6:
                if random_.random() < 0.3:
                    del data[at:]
    return bytes(data)


def target(kind: str, folder: Path) -> Callable[[bytes], None]:
    """What takes an input of a kind; returns when it is taken or refused as it should be."""
    from edge.errors import BadInputError

    path = folder / f"{kind}.input"
    if kind in ("dicom", "image"):
        from edge.imaging.decode import decode_file

        def take(data: bytes) -> None:
            path.write_bytes(data)
            for frame in decode_file(path, "fuzz"):
                assert frame.pixels.size
    elif kind == "config":
        from edge.agent.config import AgentConfig
        from edge.schema import parse

        def take(data: bytes) -> None:
            parse(data.decode("utf-8", "replace"), AgentConfig, "agent.yaml")
    elif kind == "bundle":
        from edge.bundle.archive import open_bundle

        def take(data: bytes) -> None:
            path.write_bytes(data)
            open_bundle(path)
    elif kind == "manifest":
        from edge.bundle.manifest import Manifest
        from edge.schema import parse

        def take(data: bytes) -> None:
            parse(data.decode("utf-8", "replace"), Manifest, "manifest.json")
    else:
        from edge.agent.clock import Clock
        from edge.agent.commands import Commands, InvalidCommandError
        from edge.agent.database import Database

        commands = Commands(Database(folder / "agent.db"), Clock(), {"ping": lambda _: {}})

        def take(data: bytes) -> None:
            try:
                commands.answer("ping", data)
            except InvalidCommandError as error:
                assert "\n" not in str(error)

    def taken(data: bytes) -> None:
        try:
            take(data)
        except BadInputError as error:
            assert "\n" not in str(error)

    return taken


def input_number(kind: str, seed: int, number: int, whole: list[bytes]) -> bytes:
    return damaged(whole, random.Random(f"{kind}:{seed}:{number}"))


def _try_all(kind: str, seed: int, numbers: range, at: Any, slowest: Any, bad: Any) -> None:
    """In a process of its own: ``at`` is the number in hand."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders complain of each
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        take, whole = target(kind, Path(folder)), seeds(kind)
        for number in numbers:
            at.value = number
            data = input_number(kind, seed, number, whole)
            start = time.perf_counter()
            try:
                take(data)
            except BaseException as error:  # noqa: BLE001  whatever it is, it is what is looked for
                bad.put({"kind": kind, "number": number, "error": f"{type(error).__name__}: {error}"[:300]})
            slowest.value = max(slowest.value, time.perf_counter() - start)
        at.value = numbers.stop
        os._exit(0)


def in_process(kind: str, seed: int, count: int) -> dict[str, Any]:
    """Try ``count`` inputs of a kind. What ends or hangs the process is told, and another goes on after it.

    ``aborted`` are DICOM files at which gdcm, which decodes in C++, gave up by ending its process: that is
    what the decoding worker is for, and each of them is given to it (see :func:`contained`).
    """
    context = multiprocessing.get_context("spawn")
    at, slowest, bad = context.Value("q", -1), context.Value("d", 0.0), context.SimpleQueue()
    found: list[dict[str, Any]] = []
    aborted: list[int] = []
    first = 0
    while first < count:
        process = context.Process(target=_try_all, args=(kind, seed, range(first, count), at, slowest, bad))
        process.start()
        last, since, hung = -1, time.monotonic(), False
        while process.is_alive():
            process.join(0.5)
            while not bad.empty():
                found.append(bad.get())
            if at.value != last:
                last, since = at.value, time.monotonic()
            elif time.monotonic() - since > 60 + LIMIT_S:  # to start takes time, too
                hung = True
                process.kill()
        while not bad.empty():
            found.append(bad.get())
        if process.exitcode == -signal.SIGABRT and kind == "dicom":
            aborted.append(at.value)
        elif process.exitcode:
            error = "hung" if hung else f"crashed ({process.exitcode})"
            found.append({"kind": kind, "number": at.value, "error": error})
        first = at.value + (process.exitcode != 0)
    found += contained(kind, seed, aborted)
    return {"inputs": count, "aborted": len(aborted), "slowest_s": round(slowest.value, 3), "bad": found}


def contained(kind: str, seed: int, numbers: list[int]) -> list[dict[str, Any]]:
    """Of inputs that end a process, those that the decoding worker does not say to be unreadable."""
    from edge.imaging.errors import UnreadableImageError
    from edge.imaging.worker import Decoder

    bad = []
    whole = seeds(kind)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, Decoder() as decoder:
        for number in numbers:
            path = Path(folder) / "input"
            path.write_bytes(input_number(kind, seed, number, whole))
            try:
                list(decoder.frames(path, "fuzz"))
            except UnreadableImageError:
                continue
            bad.append({"kind": kind, "number": number, "error": "ends a process, but not the worker"})
    return bad


def through_worker(seed: int, count: int) -> dict[str, Any]:
    """Inputs through the decoding worker: each gives frames or is unreadable, within the worker's limits."""
    from edge.imaging.errors import UnreadableImageError
    from edge.imaging.worker import TIMEOUT_S, Decoder

    bad, slowest, ended = [], 0.0, 0
    whole = {kind: seeds(kind) for kind in ("dicom", "image")}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, Decoder() as decoder:
        for number in range(count):
            kind = "dicom" if number % 3 else "image"
            path = Path(folder) / "input"
            path.write_bytes(input_number(f"worker-{kind}", seed, number, whole[kind]))
            start = time.perf_counter()
            try:
                for frame in decoder.frames(path, "fuzz"):
                    assert frame.pixels.size
            except UnreadableImageError as error:
                ended += "cannot be decoded:" in str(error)
                if "\n" in str(error):
                    bad.append({"kind": "worker", "number": number, "error": "more than one line"})
            except Exception as error:  # noqa: BLE001  as above
                bad.append({"kind": "worker", "number": number, "error": f"{type(error).__name__}: {error}"})
            slowest = max(slowest, time.perf_counter() - start)
    if slowest > TIMEOUT_S + 2:
        bad.append({"kind": "worker", "number": -1, "error": "hung"})
    return {"inputs": count, "slowest_s": round(slowest, 3), "ended_the_worker": ended, "bad": bad}


def coverage(kind: str, inputs: int) -> None:
    """Let Atheris look for new ways through a kind's target; does not return."""
    import atheris

    with atheris.instrument_imports(include=["edge"]):
        import edge.agent.commands
        import edge.imaging.decode  # noqa: F401
    # libFuzzer's clock goes on ticking while Python ends, and would end it as if an input had hung.
    atexit.register(signal.signal, signal.SIGALRM, signal.SIG_IGN)
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(seeds(kind)):
        (corpus / str(number)).write_bytes(data)
    take = target(kind, folder)
    limits = [f"-atheris_runs={inputs}", f"-timeout={int(LIMIT_S)}", "-rss_limit_mb=3000", "-max_len=200000"]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], take)
    atheris.Fuzz()


@click.command()
@click.option("--inputs", default=100_000, show_default=True)
@click.option("--worker", default=1000, show_default=True, help="Inputs through the decoding worker.")
@click.option("--seed", default=0, show_default=True)
@click.option("--coverage", "coverage_of", type=click.Choice(KINDS), help="Use Atheris, on this kind alone.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the result here too.")
def main(inputs: int, worker: int, seed: int, coverage_of: str | None, out: Path | None) -> None:
    if coverage_of:
        coverage(coverage_of, inputs)
    start = time.perf_counter()
    results: dict[str, dict[str, Any]] = {}
    for kind, share in SHARES.items():
        results[kind] = in_process(kind, seed, int(share * inputs))
        click.echo(f"{kind}: {json.dumps(results[kind])}", err=True)  # it may take long
    results["worker"] = through_worker(seed, worker)
    slow = [kind for kind, result in results.items() if kind != "worker" and result["slowest_s"] > LIMIT_S]
    bad = sum(len(result["bad"]) for result in results.values()) + len(slow)
    result = {"seed": seed, "bad": bad, "seconds": round(time.perf_counter() - start, 1), **results}
    print(json.dumps(result))
    if out:
        out.write_text(json.dumps(result) + "\n", encoding="utf-8")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
