"""From the start of a C-STORE to the finding in the outbox: a 2048 x 2048 CR of 16 bits, through the agent.

    python benchmarks/dicom.py BUNDLE [--images 20] [--json FILE]

The agent runs as it would on a cart, with no broker in reach; this process sends one image after the other,
each when the finding of the last one is there. ``store_ms`` is until the sender hears success,
``finding_ms`` until the finding is on the disk; medians, and the greatest. The first image is not counted.
"""

from __future__ import annotations

import json
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path

import click
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

from edge.agent.config import AgentConfig, DicomSource, MqttConfig
from edge.agent.service import Agent

SIDE = 2048


def image(seed: int) -> Dataset:
    """A CR image of noise over a gradient."""
    random = np.random.default_rng(seed)
    pixels = np.linspace(500, 3000, SIDE)[:, None] + random.normal(0, 50, (SIDE, SIDE))
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = ComputedRadiographyImageStorage, generate_uid()
    dataset.StudyInstanceUID, dataset.Modality = generate_uid(), "CR"
    dataset.Rows = dataset.Columns = SIDE
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation, dataset.WindowCenter, dataset.WindowWidth = 0, 1750, 3000
    dataset.PixelData = np.clip(pixels, 0, 4095).astype("<u2").tobytes()
    return dataset


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@click.command()
@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@click.option("--images", default=20, show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the result here too.")
def main(bundle: Path, images: int, out: Path | None) -> None:
    with tempfile.TemporaryDirectory() as state:
        port = free_port()
        config = AgentConfig(
            site="bench",
            device="bench",
            state=Path(state),
            bundles=(bundle,),
            allow_unsigned=True,
            sources=(DicomSource(host="127.0.0.1", port=port, callers=("BENCH",)),),
            mqtt=MqttConfig(port=free_port()),
            screen=None,
        )
        agent, stop = Agent(config), threading.Event()
        running = threading.Thread(target=agent.run, args=(stop,))
        running.start()
        try:
            times = measure(agent, port, images + 1)[1:]
        finally:
            stop.set()
            running.join()
    result = {
        "images": images,
        **{
            f"{name}_ms{suffix}": round(of(values) * 1e3, 1)
            for name, values in zip(("store", "finding"), zip(*times, strict=True), strict=True)
            for suffix, of in (("", statistics.median), ("_greatest", max))
        },
    }
    print(json.dumps(result))
    if out:
        out.write_text(json.dumps(result) + "\n", encoding="utf-8")


def measure(agent: Agent, port: int, images: int) -> list[tuple[float, float]]:
    """Seconds from the start of each send to success, and to the finding."""
    ae = AE("BENCH")
    ae.add_requested_context(ComputedRadiographyImageStorage, ExplicitVRLittleEndian)
    while not (sender := ae.associate("127.0.0.1", port, ae_title="SCANWRIGHT")).is_established:
        time.sleep(0.1)
    times = []
    for seed in range(images):
        dataset, before = image(seed), agent.store.sequence()
        start = time.perf_counter()
        if sender.send_c_store(dataset).Status != 0:
            raise SystemExit("the image was refused")
        stored = time.perf_counter()
        while agent.store.sequence() == before:
            time.sleep(0.002)
        times.append((stored - start, time.perf_counter() - start))
    sender.release()
    return times


if __name__ == "__main__":
    main()
