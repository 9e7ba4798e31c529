"""The self-test of a cart: every part tried for real while the agent is stopped, one Check a part."""

from __future__ import annotations

import hashlib
import os
import socket
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np

from edge import __version__
from edge.agent.commissioning import Check, Report, checked
from edge.agent.config import AgentConfig, DicomSource, FolderSource, SlotConfig
from edge.agent.config import Source as SourceConfig
from edge.agent.model import load_models
from edge.agent.service import Agent
from edge.agent.state import running_agent
from edge.agent.store import StoredFinding
from edge.errors import ScanwrightError
from edge.files import in_memory
from edge.imaging.frame import Frame
from edge.sources.base import Item

__all__ = ["run_selftest"]

_SIDE = 512  # pixels of the practice image
_TIMED = 20  # frames
_SLOWEST_MS = 1000.0  # a result within a second
_WRITTEN = 8 << 20  # bytes, of the disk's test
_DISK_FREE_MB = 1000.0
_MEMORY_FREE_MB = 200.0
_HOTTEST_CELSIUS = 80.0  # where a Raspberry Pi begins to throttle
_ANSWER_S = 20.0  # for the agent to decide, and for the broker to take


class _FailedError(ScanwrightError):
    """A check failed; the message is what was seen."""


class _Practice:
    """A source of one practice frame."""

    name = "selftest"

    def frames(self, stop: threading.Event) -> Iterator[Item]:
        """The frame."""
        yield _practice_frame()


def run_selftest(config: AgentConfig) -> Report:
    """Try all that a configuration names; takes the place of the agent, which must not run.

    Raises:
        ScanwrightError: an agent runs on the state folder, or the folder is another user's.
    """
    _refuse_to_disturb(config.state)
    checks = [Check("configuration", True, f"for target {config.target or 'any'}, of {config.site}")]
    for bundle in config.bundles:
        checks += _bundle_checks(config, bundle)
    checks += [checked(f"source {source.name}", partial(_source, source)) for source in config.sources]
    checks += [
        checked("disk", lambda: _disk(config.state)),
        checked("memory", _memory),
        checked("broker reachable", lambda: _broker(config)),
    ]
    # What the broker does with a finding is worth a wait only where it can be reached.
    checks += _agent_checks(config, told_within_s=_ANSWER_S if checks[-1].passed else 0.0)
    now = datetime.now(timezone.utc)
    return Report(config.site, config.device, __version__, now, tuple(checks))


def _refuse_to_disturb(state: Path) -> None:
    if pid := running_agent(state):
        raise ScanwrightError(f"state: {state} is in use by an agent (process {pid}); stop that one first")
    if state.exists() and state.stat().st_uid != os.geteuid():
        raise ScanwrightError(f"state: {state} is another user's; run the self-test as {state.owner()}")


def _practice_frame() -> Frame:
    """A generated picture, known by a name that was never used."""
    rows, columns = np.mgrid[:_SIDE, :_SIDE]
    noise = np.random.default_rng(7).normal(0, 8, (_SIDE, _SIDE))
    pixels = (96 + 64 * np.sin(rows / 37) * np.cos(columns / 53) + noise).astype(np.uint8)
    name = f"selftest:{uuid.uuid4().hex}"
    return Frame(pixels, name, name, _Practice.name, test=True)


def _bundle_checks(config: AgentConfig, bundle: Path | SlotConfig) -> list[Check]:
    name = bundle.name if isinstance(bundle, Path) else f"slot {bundle.slot}"
    times: dict[str, list[float]] = {"infer": [], "all": []}

    def load() -> str:
        # A policy may move thresholds of other bundles: the agent's own check below looks at it.
        (model,) = load_models(config.model_copy(update={"bundles": (bundle,), "policy": None}))
        frame = _practice_frame()
        for _ in range(_TIMED):
            start = time.perf_counter()
            prediction, _ = model.look(frame)
            times["all"].append((time.perf_counter() - start) * 1e3)
            times["infer"].append(prediction.elapsed_ms["infer"])
        ref = model.ref
        return (
            f"{ref.name} {ref.version} sha256 {ref.sha256[:16]}, {'signed' if ref.signed else 'NOT SIGNED'}; "
            f"all hashes match; golden vectors replayed on {model.engine}, "
            f"largest difference {model.golden_difference} steps"
        )

    def fast() -> str:
        if not times["all"]:
            raise _FailedError("the bundle does not load")
        infer, whole = statistics.median(times["infer"]), statistics.median(times["all"])
        seen = f"{infer:.1f} ms in the interpreter, {whole:.1f} ms in all a frame (at most {_SLOWEST_MS:.0f})"
        return _held(whole <= _SLOWEST_MS, seen)

    return [checked(f"bundle {name}", load), checked(f"time of {name}", fast)]


def _source(config: SourceConfig) -> str:
    if isinstance(config, FolderSource):
        readable = config.path.is_dir() and os.access(config.path, os.R_OK | os.X_OK)
        return _held(readable, f"folder {config.path}", "cannot be read")
    if isinstance(config, DicomSource):
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        socket.create_server((config.host, config.port), family=family).close()
        return f"DICOM port {config.host}:{config.port} is free, {config.ae_title} can listen there"
    from edge.sources.capture import LiveCapture

    if isinstance(config.url, str) and "://" not in config.url and not config.url.startswith("/dev/"):
        import cv2

        found, _ = cv2.VideoCapture(config.url).read()
        return _held(found, f"video file {config.url}", "no frame can be read from it")
    stop = threading.Event()
    live = LiveCapture(config, silence_s=1.0)
    first = next(iter(live.frames(stop)), None)
    stop.set()
    size = f"{first.pixels.shape[1]} x {first.pixels.shape[0]}" if isinstance(first, Frame) else ""
    return _held(bool(size), f"a frame of {size} arrived" if size else "camera or stream", "no frame arrives")


def _disk(state: Path) -> str:
    """Room, and whether what was written through is there again when it is read from the disk itself."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = state / "selftest.bin"
    data = os.urandom(_WRITTEN)
    start = time.perf_counter()
    try:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            seconds = time.perf_counter() - start
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            same = hashlib.sha256(file.read()).digest() == hashlib.sha256(data).digest()
    finally:
        path.unlink(missing_ok=True)
    if not same:
        raise _FailedError(f"{state}: what was written is not what is read back; replace the card or disk")
    if in_memory(state):
        raise _FailedError(f"{state}: is in memory: the data partition is not mounted; replace the card")
    stat = os.statvfs(state)
    free = stat.f_bavail * stat.f_frsize / 1e6
    seen = f"{free:.0f} MB free (at least {_DISK_FREE_MB:.0f}), written through and read back at "
    return _held(free >= _DISK_FREE_MB, f"{seen}{_WRITTEN / 1e6 / seconds:.0f} MB/s")


def _memory() -> str:
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024 / 1e6
    return _held(free >= _MEMORY_FREE_MB, f"{free:.0f} MB available (at least {_MEMORY_FREE_MB:.0f})")


def _broker(config: AgentConfig) -> str:
    where = f"{config.mqtt.host}:{config.mqtt.port}"
    try:
        socket.create_connection((config.mqtt.host, config.mqtt.port), timeout=5).close()
    except OSError as error:
        raise _FailedError(f"{where} cannot be reached ({error.strerror or error})") from error
    return where


def _agent_checks(config: AgentConfig, told_within_s: float) -> list[Check]:
    """The real agent, with a practice frame in place of its sources."""
    names = ("agent decides", "clock", "temperature", "screen", "broker accepts")
    try:
        # Without updates: the self-test is no start that counts for a bundle on trial.
        agent = Agent(config.model_copy(update={"update": None}), [_Practice()])
    except ScanwrightError as error:
        return [Check(name, False, str(error)) for name in names]
    last, stop = agent.store.sequence(), threading.Event()

    def practice() -> list[StoredFinding]:
        latest = agent.store.latest(len(config.bundles) + 20, pictures=False)
        return [s for s in latest if s.seq > last and s.finding["test"]]

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(agent.run, stop)
        looks: tuple[Callable[[], str], ...] = (
            lambda: _decides(practice, running, len(config.bundles)),
            lambda: _clock(practice()),
            lambda: _temperature(agent),
            lambda: _screen(agent),
            lambda: _told(practice, running, told_within_s, config.mqtt.receipts),
        )
        try:
            return [checked(name, look) for name, look in zip(names, looks, strict=True)]
        finally:
            stop.set()


def _decides(practice: Callable[[], list[StoredFinding]], running: Future[None], bundles: int) -> str:
    if not _in_time(lambda: len(practice()) >= bundles, running, _ANSWER_S):
        raise _FailedError(f"no finding of the practice image within {_ANSWER_S:.0f} s")
    said = [f"{s.finding['bundle']['name']}: {s.finding['decision']}" for s in practice()]
    return f"a practice image went through the agent; {', '.join(said)}"


def _clock(findings: list[StoredFinding]) -> str:
    if not findings:
        raise _FailedError("no finding to read a time from")
    stamp = findings[0].finding["stamp"]
    return _held(stamp["clock_trusted"], f"{stamp['at'][:19]} UTC", "not synchronized: is a time server set?")


def _temperature(agent: Agent) -> str:
    found = agent.health().temperature_celsius
    if found is None:
        return "this machine has no sensor"
    return _held(found < _HOTTEST_CELSIUS, f"{found:.0f} degrees C (below {_HOTTEST_CELSIUS:.0f})")


def _screen(agent: Agent) -> str:
    if agent.screen is None:
        return "none is configured"
    try:
        with urlopen(agent.screen.url, timeout=5) as page:
            return f"{agent.screen.url} answers with a page of {len(page.read())} bytes"
    except URLError as error:
        raise _FailedError(f"{agent.screen.url} does not answer ({error.reason})") from error


def _told(
    practice: Callable[[], list[StoredFinding]], running: Future[None], within_s: float, receipts: bool
) -> str:
    by = "a receipt" if receipts else "the broker's acknowledgement"
    told = _in_time(lambda: bool(practice()) and all(s.delivered for s in practice()), running, within_s)
    if not told:
        why = "does a receiver run that answers on down/ack?" if receipts else "does anybody subscribe?"
        raise _FailedError(f"{by} did not come for the practice finding, which waits in the outbox; {why}")
    return f"{by} came for the practice finding"


def _in_time(condition: Callable[[], bool], running: Future[None], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if running.done():
            running.result()  # says why it ended
        if time.monotonic() >= deadline or running.done():
            return False
        time.sleep(0.05)
    return True


def _held(held: bool, seen: str, otherwise: str = "") -> str:
    """``seen`` where the condition holds.

    Raises:
        _FailedError: it does not.
    """
    if not held:
        raise _FailedError(f"{seen}: {otherwise}" if otherwise else seen)
    return seen
