"""``scanwright inspect`` and ``scanwright targets``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.output import json_option, write_json

if TYPE_CHECKING:
    from edge.bundle.manifest import Interval

__all__ = ["inspect", "targets"]


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@json_option
def inspect(bundle: Path, json_file: str | None) -> None:
    """Check every byte of BUNDLE and print what it says of itself."""
    from edge.bundle.archive import open_bundle

    opened = open_bundle(bundle)
    manifest = opened.manifest
    if json_file:
        answer = {"bundle_sha256": opened.sha256, "bundle_bytes": opened.size}
        write_json({**answer, "manifest": manifest.model_dump(mode="json")}, json_file)
    if json_file == "-":
        return

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    use, size, decision = manifest.intended_use, manifest.input, manifest.decision
    limits = {"modality": use.modality, "body part": use.body_part, "view": use.view}
    stated = [f"{name} {', '.join(values)}" for name, values in limits.items() if values]
    ages = (use.min_age_years, use.max_age_years)
    if ages != (None, None):
        stated.append(f"age {'-'.join('' if age is None else f'{age:g}' for age in ages)} years")
    thresholds = [
        f"{label} at {limit.value:g} (a site may move it within {limit.min:g}-{limit.max:g})"
        for label, limit in decision.thresholds.items()
    ]
    gate = f"refused above {decision.ood.limit:.3g}" if decision.ood else "no gate: this model has none"
    rows = {
        "name": f"{manifest.name} {manifest.version} for {manifest.target}",
        "file": f"{opened.size:,} bytes, SHA-256 {opened.sha256}",
        "intended use": use.statement,
        "limited to": "; ".join(stated) or "nothing stated",
        "task": f"{manifest.task}: {', '.join(manifest.labels)}",
        "nothing found": decision.negative_label or "no such label",
        "input": f"{size.height} x {size.width} x {size.channels} {size.dtype}",
        "steps": ", ".join(step.op for step in manifest.steps),
        "outputs": ", ".join(f"{o.name}{list(o.shape)}" for o in manifest.outputs),
        "positive": "; ".join(thresholds) or "no label has a threshold",
        "unlike training": gate,
        "operators": ", ".join(f"{o.name} v{o.version}" for o in manifest.runtime.operators),
        "needs": f"TensorFlow Lite {manifest.runtime.min_version} or newer",
        "members": ", ".join(f"{name} {len(opened.member(name)):,}" for name in opened.names),
        "made": manifest.provenance.created,
        "seal": "every byte as it was packed; origin not proven (unsigned)",
    }
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in rows.items():
        table.add_row(f"[bold]{name}[/]", escape(value))
    console = Console(highlight=False)
    console.print(table)
    if manifest.metrics:
        results = Table("", "split", "n", "AUROC", "accuracy", "ECE", "model", title="Held-out results")
        for variant, figures in manifest.metrics.items():
            error = "-" if figures.ece is None else f"{figures.ece:.3f}"
            row = [
                figures.split,
                str(figures.n),
                _interval(figures.auroc),
                _interval(figures.accuracy),
                error,
            ]
            results.add_row(variant, *row, f"{figures.model_bytes:,} bytes")
        console.print(results)
    console.print("Not a medical device: findings are decision support.")


@click.command()
@json_option
def targets(json_file: str | None) -> None:
    """List the boards that bundles are made for, and what each claim rests on."""
    from edge.bundle.target import target, target_names

    found = [target(name) for name in target_names()]
    if json_file:
        write_json({"targets": [one.model_dump(mode="json") for one in found]}, json_file)
    if json_file == "-":
        return

    from rich.console import Console
    from rich.table import Table

    table = Table("target", "board", "systems", "proven on")
    table.columns[0].no_wrap = True
    for one in found:
        proofs = "; ".join(f"{proof.by}: {proof.what}" for proof in one.proven)
        systems = ", ".join(release.name for release in one.releases) or "-"
        table.add_row(one.name, one.title, systems, proofs)
    Console(highlight=False).print(table)


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    return f"{interval.value:.3f} ({interval.low:.3f}-{interval.high:.3f})"
