"""The report on compression: what it cost, where, and what a search within a budget found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from trainer.budget import Budget, Found
from trainer.evaluation import plots
from trainer.evaluation.layers import LayerError
from trainer.evaluation.markup import NONE, row, section, table
from trainer.evaluation.paired import Drop, Drops
from trainer.recipe import Compression

__all__ = ["Costs", "compression_costs", "compression_note", "within_budget"]

LAYERS_SHOWN = 5
FEW = 20
"""Images of a class below which its figures say little."""


@dataclass(frozen=True)
class Costs:
    """What is known of a network's compression.

    ``settings`` are the recipe's, or those that the search chose; ``sparsity`` is the share of zeros among
    the weights that pruning may remove; ``drops`` what each variant lost against float; ``layers`` the
    quantization errors, the worst first; ``tried`` what a search within ``budget`` tried.
    """

    settings: Compression = field(default_factory=lambda: Compression(sparsity=0.0))
    sparsity: float = 0.0
    drops: Mapping[str, Drops] = field(default_factory=dict)
    layers: Sequence[LayerError] = ()
    budget: Budget | None = None
    tried: Sequence[Found] = ()

    def as_json(self) -> dict[str, Any]:
        """What ``metrics.json`` keeps of it."""
        return {
            "sparsity": self.sparsity,
            "drops": {name: drops.model_dump(mode="json") for name, drops in self.drops.items()},
            "layers": [layer.model_dump(mode="json") for layer in self.layers],
            "budget": self.budget and self.budget.model_dump(mode="json"),
            "tried": [found.model_dump(mode="json") for found in self.tried],
        }


def compression_note(costs: Costs) -> str:
    """What was done to the network, and what that does and does not bring."""
    said = []
    if costs.settings.channels < 1:
        share = f"{100 * costs.settings.channels:g} %"
        said.append(f"{share} of the channels are left: the network is smaller and faster.")
    said.append(
        f"{costs.sparsity:.0%} of the convolutions' weights are zero. Pruning makes the file compress better "
        "on the wire and on the card; it makes nothing faster in these interpreters. Speed comes from int8 "
        "and from fewer channels."
        if costs.settings.sparsity
        else "This model is not pruned."
    )
    if costs.settings.method == "quantization-aware":
        said.append("It learned with its weights rounded to int8 (quantization-aware training).")
    return " ".join(said)


def compression_costs(costs: Costs) -> str:
    """What int8 lost against float, overall and by class, and the layers that quantization hurts most.

    Empty where there is no float model to compare with.
    """
    if "int8" not in costs.drops:
        return ""
    drops = costs.drops["int8"]
    rows = [row(("overall", str(drops.n), _change(drops.overall), NONE), chosen=True)]
    rows += [
        row((label, str(own.n), _change(own.auroc or own.dice), _change(own.sensitivity)))
        for label, own in drops.per_class.items()
    ]
    few = [label for label, own in drops.per_class.items() if own.n < FEW]
    warning = (
        f" Fewer than {FEW} held-out images show {', '.join(few)}: of these little is known." if few else ""
    )
    name = "Dice" if drops.metric == "dice" else "AUROC"
    heads = ("int8 against float", "Images", f"Change in {name}", "Change in sensitivity")
    worst = costs.layers[:LAYERS_SHOWN]
    layers = table(
        ("Layers that quantization hurts most", "Operator", "Error it adds", "Error there"),
        [row((one.layer, one.operator, f"{one.added:.1%}", f"{one.error:.1%}")) for one in worst],
    )
    return (
        f"<h3>What compression cost</h3>{table(heads, rows)}"
        '<p class="soft">In brackets: 95 % intervals of a paired bootstrap, both models on the same images. '
        f"Packaging refuses what is too much.{escape(warning)}</p>{layers}"
        '<p class="soft">Root mean square of the difference between int8 and float over the spread of the '
        "float values, on tuning images.</p>"
    )


def within_budget(costs: Costs) -> str:
    """What the search tried, the one that was taken first, as a table and as a chart."""
    budget, tried, best = costs.budget, costs.tried, costs.tried[0]
    assert budget is not None
    heads = (
        "Combination",
        f"{best.measure}, tuning",
        "int8 file",
        "compressed",
        "ms, estimate" if budget.target else "ms, here",
        "fits",
        "front",
    )
    rows = [row((found.settings(), *found.figures()), chosen=found.best) for found in tried]
    said = (
        f"Taken: {best.settings()}, the best that fits."
        if best.fits
        else f"Nothing that was tried fits. Taken is what comes closest: {best.settings()}."
    )
    estimate = (
        f" Time on {budget.target} is time here times {budget.factor:g}, the target's latency factor: an "
        "estimate, not a measurement."
        if budget.target
        else ""
    )
    return section(
        "Within the budget",
        f"<p>Budget: {escape(budget.in_words())}. {escape(said)}</p>{table(heads, rows)}"
        f"{plots.front(tried, budget)}"
        '<p class="soft">Judged on the tuning images alone, so that the held-out figures above decided '
        "nothing. Front: nothing else that was tried is as good in every respect and better in one. Pruning "
        f"weights compresses the transfer and speeds nothing up; fewer channels do both.{escape(estimate)}"
        "</p>",
    )


def _change(drop: Drop | None) -> str:
    if drop is None:
        return NONE
    change, low, high = (0.0 - round(lost, 4) for lost in (drop.value, drop.high, drop.low))
    return f"{change:+.4f} [{low:+.4f} to {high:+.4f}]"
