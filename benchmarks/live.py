"""A live stream through the agent: 640 x 480 pictures at 30 a second, for half a minute.

    python benchmarks/live.py BUNDLE [--seconds 30] [--json FILE]

A process of its own serves motion JPEG. Each picture has its number drawn into it in blocks, so that what
the agent is about to judge can be held against what the camera has sent by then. ``lag_frames`` is how many
pictures newer than the one in hand that was (median, and 99 %), without the one that is always on its way.
``judged_per_s`` is how many frames had a finding made, ``told`` how many of them were told. ``memory_mb`` is
what agent and grabber take together (proportional set size), at its greatest. ``served_per_s`` is what this
machine made of 30, the reference for the rest: below 30 the machine is too busy to tell.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

HEIGHT, WIDTH, RATE = 480, 640, 30
BITS, BLOCK = 16, 32


def picture(number: int, noise: np.ndarray) -> np.ndarray:
    """A moving gradient with grain, its number as a row of black and white blocks."""
    ramp = (np.arange(WIDTH) + 4 * number) % WIDTH * 120 // WIDTH + 60
    pixels = ramp.astype(np.uint8) + noise
    for bit in range(BITS):
        pixels[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (number >> bit & 1)
    return np.dstack([pixels] * 3)


def number_of(pixels: np.ndarray) -> int:
    """The number drawn into a picture."""
    centres = pixels[BLOCK // 2, BLOCK // 2 : BITS * BLOCK : BLOCK]
    return sum(1 << bit for bit in range(BITS) if centres[bit].mean() > 127)


def serve(port: Any, shown: Any) -> None:
    """The camera: ``shown`` is the number of the picture that was sent last."""
    import http.server

    noise = np.random.default_rng(0).integers(0, 20, (8, HEIGHT, WIDTH), np.uint8)

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            start = time.monotonic()
            for number in range(1 << BITS):
                jpeg = cv2.imencode(".jpg", picture(number, noise[number % 8]))[1].tobytes()
                time.sleep(max(0.0, start + number / RATE - time.monotonic()))
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
                except OSError:
                    return
                shown.value = number

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Camera)
    port.value = server.server_port
    server.serve_forever()


class Watched:
    """A live source that notes, of each frame, how many newer ones the camera had sent when it was taken."""

    def __init__(self, source: Any, shown: Any) -> None:
        self.name, self._source, self._shown = source.name, source, shown
        self.lags: list[int] = []
        self.began = 0.0

    def frames(self, stop: threading.Event) -> Iterator[Any]:
        for item in self._source.frames(stop):
            if getattr(item, "live", False):
                self.began = self.began or time.monotonic()
                self.lags.append(self._shown.value - number_of(item.pixels))
            yield item


def memory_mb(pid: int) -> float:
    """Proportional set size of a process and of those it started."""
    pids = [pid]
    for process in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(process.read_text().rpartition(")")[2].split()[1]) == pid:
                pids.append(int(process.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    total = 0
    for one in pids:
        try:
            found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{one}/smaps_rollup").read_text(), re.MULTILINE)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        total += int(found[1]) if found else 0
    return total / 1024


def run_agent(bundle: str, port: int, shown: Any, seconds: float, result: Any) -> None:
    """The cart, in a process of its own whose memory is nobody else's."""
    import os

    from edge.agent.config import AgentConfig, CaptureSource, MqttConfig
    from edge.agent.service import Agent
    from edge.sources.capture import LiveCapture

    with tempfile.TemporaryDirectory() as state:
        camera = CaptureSource(name="camera", url=f"http://127.0.0.1:{port}/")
        config = AgentConfig(
            site="bench",
            device="bench",
            state=Path(state),
            bundles=(Path(bundle),),
            allow_unsigned=True,
            sources=(camera,),
            mqtt=MqttConfig(port=9),
            screen=None,
        )
        source = Watched(LiveCapture(config.sources[0], 30), shown)  # type: ignore[arg-type]
        agent, stop = Agent(config, [source]), threading.Event()
        running = threading.Thread(target=agent.run, args=(stop,))
        running.start()
        most = 0.0
        while not source.began or time.monotonic() - source.began < seconds:
            time.sleep(0.5)
            most = max(most, memory_mb(os.getpid()))
        took, count = time.monotonic() - source.began, len(source.lags)
        told = len(agent.store.latest(100_000, pictures=False))
        stop.set()
        running.join()
        late = source.lags[RATE:] or source.lags  # what was sent before the first was taken does not count
        result.put(
            {
                "judged_per_s": round(count / took, 1),
                "told": told,
                "lag_frames": max(0.0, statistics.median(late) - 1),
                "lag_frames_99": max(0, sorted(late)[int(0.99 * len(late))] - 1),
                "memory_mb": round(most, 1),
            }
        )


@click.command()
@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@click.option("--seconds", default=30.0, show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the result here too.")
def main(bundle: Path, seconds: float, out: Path | None) -> None:
    context = multiprocessing.get_context("spawn")
    port, shown, result = context.Value("i", 0), context.Value("q", 0), context.SimpleQueue()
    camera = context.Process(target=serve, args=(port, shown), daemon=True)
    camera.start()
    while not port.value:
        time.sleep(0.05)
    agent = context.Process(target=run_agent, args=(str(bundle), port.value, shown, seconds, result))
    agent.start()
    while not shown.value and agent.is_alive():
        time.sleep(0.05)
    began, first = time.monotonic(), shown.value
    time.sleep(seconds / 2)
    served = (shown.value - first) / (time.monotonic() - began)
    agent.join()
    if agent.exitcode:
        raise SystemExit(1)
    found = {"served_per_s": round(served, 1), **result.get()}
    camera.terminate()
    print(json.dumps(found))
    if out:
        out.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
