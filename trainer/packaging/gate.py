"""The gate before packaging: a compressed model worse than the float one is refused, with the cause."""

from __future__ import annotations

from collections.abc import Sequence

from edge.errors import ScanwrightError
from trainer.evaluation.layers import LayerError
from trainer.evaluation.paired import Drop, Drops

__all__ = [
    "HARD_LIMIT",
    "SENSITIVITY_TOLERANCE",
    "TOLERANCE",
    "check_drops",
]

TOLERANCE = 0.005
"""By how much the held-out AUROC (or Dice) may be below the float model's, overall and in each class."""

SENSITIVITY_TOLERANCE = 0.05
"""By how much a class's sensitivity, at the argmax, may be below the float model's."""

HARD_LIMIT = 4 * TOLERANCE
"""An overall drop beyond this is refused even where the images are too few to tell it from chance."""

DOUBT = 0.05
"""Chance at which a drop is taken to be no drop; shared by the classes (Bonferroni)."""

NAMED = 3
"""Layers that a refusal names."""

FIGURES: dict[str, str] = {"auroc": "AUROC", "dice": "Dice", "sensitivity": "sensitivity"}


def check_drops(
    where: str,
    drops: Drops,
    *,
    pruned: Drops | None = None,
    layers: Sequence[LayerError] = (),
) -> None:
    """Refuse a model that lost more than it may against the float one.

    Refused is: a class that the float model finds and this one never does; an overall figure, or one of a
    class, that is below the float model's by more than its tolerance while the paired bootstrap says that
    this is no chance (ADR 14); and an overall drop beyond :data:`HARD_LIMIT`, chance or not.

    Args:
        where: what is judged; starts the message.
        drops: of the int8 model against the float one, on held-out images.
        pruned: of the pruned float model, where there is one, which tells pruning from quantization.
        layers: quantization errors, the worst first.

    Raises:
        ScanwrightError: it is refused; the message has the figures and the layers to blame.
    """
    name = FIGURES[drops.metric]
    if drops.overall is None:
        raise ScanwrightError(
            f"{where}: refused, the held-out {name} is undefined, so nothing shows that int8 is as good as "
            "float; train again with held-out images of every class"
        )
    for label, own in drops.per_class.items():
        found = own.sensitivity or own.dice
        if found and found.before > 0 and found.after == 0:
            figure = "sensitivity" if own.sensitivity else "dice"
            _refuse(where, figure, label, found, own.n, _cause(pruned, figure, label, found, layers))
    if _shown(drops.overall, TOLERANCE, DOUBT) or drops.overall.value > HARD_LIMIT:
        cause = _cause(pruned, drops.metric, None, drops.overall, layers)
        _refuse(where, drops.metric, None, drops.overall, drops.n, cause)
    doubt = DOUBT / max(1, len(drops.per_class))
    for label, own in drops.per_class.items():
        for figure, drop, tolerance in (
            ("auroc", own.auroc, TOLERANCE),
            ("dice", own.dice, TOLERANCE),
            ("sensitivity", own.sensitivity, SENSITIVITY_TOLERANCE),
        ):
            if drop and _shown(drop, tolerance, doubt):
                _refuse(where, figure, label, drop, own.n, _cause(pruned, figure, label, drop, layers))


def _shown(drop: Drop, tolerance: float, doubt: float) -> bool:
    return drop.value > tolerance and drop.certainty >= 1 - doubt


def _refuse(where: str, figure: str, label: str | None, drop: Drop, n: int, cause: str) -> None:
    of = f" of '{label}'" if label else ""
    raise ScanwrightError(
        f"{where}: refused, compression costs too much: held-out {FIGURES[figure]}{of} {drop.before:.4f} as "
        f"float, {drop.after:.4f} as int8 ({n} images, drop 95 % between {drop.low:.4f} and "
        f"{drop.high:.4f}). {cause}"
    )


def _cause(
    pruned: Drops | None, figure: str, label: str | None, drop: Drop, layers: Sequence[LayerError]
) -> str:
    """Pruning, where it took most of the drop; else the layers that quantization hurts most."""
    lost = _of(pruned, figure, label) if pruned else None
    if lost and lost.value > drop.value / 2:
        return (
            f"Pruning is to blame: {lost.after:.4f} before quantization already; raise "
            "compression.channels, lower compression.sparsity, or fine-tune for more epochs"
        )
    if not layers:
        return "Give more calibration images, or compression.method: quantization-aware"
    worst = ", ".join(
        f"{one.layer} ({one.operator}, error {one.added:.0%} of its signal)" for one in layers[:NAMED]
    )
    return (
        f"Quantization is to blame, most in: {worst}; give more calibration images, or "
        "compression.method: quantization-aware"
    )


def _of(drops: Drops, figure: str, label: str | None) -> Drop | None:
    if label is None:
        return drops.overall
    own = drops.per_class.get(label)
    found: Drop | None = getattr(own, figure, None)
    return found
