"""``scanwright bench``."""

from __future__ import annotations

from pathlib import Path

import click

from edge.output import json_option, write_json

__all__ = ["bench"]


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@json_option
def bench(bundle: Path, json_file: str | None) -> None:
    """Time BUNDLE on this machine.

    The interpreter alone; the pipeline from a frame in memory to a prediction; everything, with resize, gates
    and heat map; and a new process to its first finding. Medians of one run, one thread.
    """
    from rich.console import Console
    from rich.table import Table

    from edge.bundle.archive import open_bundle
    from edge.inference.bench import bench as measure

    opened = open_bundle(bundle)
    with Console(stderr=True).status("Timing…"):
        result = measure(opened)
    if json_file:
        write_json(result, json_file)
    if json_file == "-":
        return
    table = Table("", "median", "over the interpreter", title=f"{bundle.name} on this machine")
    table.add_row("interpreter", f"{result['interpreter_ms']:.3f} ms", "1")
    table.add_row("pipeline", f"{result['pipeline_ms']:.3f} ms", f"{result['pipeline_ratio']:.2f}")
    table.add_row("full, 640 x 480", f"{result['full_ms']:.3f} ms", f"{result['full_ratio']:.2f}")
    table.add_row("cold start", f"{result['cold_start_s']:.2f} s", "")
    table.add_row("memory", f"{result['rss_mb']:.0f} MiB", "")
    if "interpreter_ms" in (onnx := result.get("onnx", {})):
        table.add_row("model.onnx", f"{onnx['interpreter_ms']:.3f} ms", f"{onnx['ratio']:.2f}")
    console = Console()
    console.print(table)
    console.print(f"{result['kernel']}, {result['threads']} thread", highlight=False)
    if onnx:
        said = onnx.get("refused") or f"{onnx['kernel']}, {onnx['logits_steps']} steps from the int8 model"
        console.print(f"model.onnx: {said}", highlight=False)
