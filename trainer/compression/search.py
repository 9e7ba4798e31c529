"""The search for the best int8 model within a budget, judged on the tuning part alone."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from edge.inference.tflite import TFLiteEngine
from trainer.budget import Budget, Found
from trainer.compression.plan import Compressor
from trainer.recipe import Compression

__all__ = ["search"]

SHARES = (1.0, 0.75, 0.5, 0.375, 0.25, 0.125)
"""Shares of channels that are tried."""

SPARSITY = 0.5
"""Share of weights to prune where the recipe names none."""

ROUNDS = 60

Figures = dict[str, float | None]


@dataclass(frozen=True)
class _Tried:
    found: Found
    compression: Compression


def search(
    compressor: Compressor,
    wanted: Compression,
    budget: Budget,
    convert: Callable[[Any], bytes],
    judge: Callable[[bytes], Figures],
) -> tuple[tuple[Found, ...], Compression]:
    """Try combinations of channels, sparsity and method for the budget's minutes; take the best that fits.

    Size and speed hang on the number of channels and not on what the weights are, so they are measured first;
    what cannot fit is not trained. Where nothing fits, the best is what exceeds the limits least.
    Returned are the combinations tried, the one to take first, and its settings.

    Args:
        compressor: of the trained network.
        wanted: the recipe's settings: learning rates, epochs and how much to prune.
        budget: the limits.
        convert: a network to int8.
        judge: ``auroc``, ``accuracy`` and ``dice`` of an int8 model on the tuning part, through the device's
            interpreter.
    """
    ends = time.monotonic() + 60 * budget.minutes
    say = compressor.lesson.reporter.say
    say(f"Looking for the best within {budget.in_words()}, for {budget.minutes:g} minutes")
    sizes, latencies = _measure(compressor, convert, budget)
    possible = [
        share
        for share in sizes
        if (budget.size is None or sizes[share] <= budget.size)
        and (budget.latency is None or latencies[share] <= budget.latency)
    ]
    tried: list[_Tried] = []
    pace = 0.0  # seconds an epoch; nothing is begun that would not end in time, unless nothing fits yet
    for compression in _combinations(wanted, possible or [min(sizes)], tried):
        epochs = compressor.epochs_to_go(compression)
        served = any(one.found.fits for one in tried) or (not possible and len(tried) > 1)
        began = time.monotonic()
        if served and began + pace * epochs > ends:
            continue
        network, _ = compressor.compress(compression)
        if epochs:
            pace = max(pace, (time.monotonic() - began) / epochs)
        model = convert(network)
        figures: dict[str, object] = {
            "channels": compression.channels,
            "sparsity": compression.sparsity,
            "method": compression.method,
            **judge(model),
            "size": len(model),
            "transfer": len(gzip.compress(model, 9, mtime=0)),
            "latency": round(latencies[compression.channels], 4),
        }
        found = Found.model_validate(figures)
        found = found.model_copy(update={"fits": found.excess(budget) <= 1})
        tried.append(_Tried(found, compression))
        say(found.in_words())
    return _concluded(budget, tried)


def _measure(
    compressor: Compressor, convert: Callable[[Any], bytes], budget: Budget
) -> tuple[dict[float, int], dict[float, float]]:
    """Bytes and milliseconds on the target by share of channels, of equal ones the first."""
    models: dict[float, bytes] = {}
    with compressor.lesson.reporter.bar("Measuring size and speed", len(SHARES)) as advance:
        for share in SHARES:
            model = convert(compressor.narrowed(share))
            if len(model) not in map(len, models.values()):
                models[share] = model
            advance()
    engines = {share: TFLiteEngine(model) for share, model in models.items()}
    times: dict[float, list[float]] = {share: [] for share in engines}
    for _ in range(ROUNDS):
        # In turns, so that other work on the machine is in all of them alike.
        for share, engine in engines.items():
            tensor = np.zeros(engine.input.shape, engine.input.dtype)
            engine.run(tensor)  # warms the caches that the others have taken
            start = time.perf_counter()
            engine.run(tensor)
            times[share].append(1000 * (time.perf_counter() - start))
    latencies = {share: budget.factor * median(taken) for share, taken in times.items()}
    return {share: len(model) for share, model in models.items()}, latencies


def _combinations(
    wanted: Compression, shares: Sequence[float], tried: Sequence[_Tried]
) -> Iterator[Compression]:
    """The unpruned network for comparison; fewer channels; then, of the best of these, what can be added."""
    plain = wanted.model_copy(update={"channels": 1.0, "sparsity": 0.0, "method": "post-training"})
    yield plain
    for share in shares:
        if share < 1:
            yield plain.model_copy(update={"channels": share})
    additions: list[dict[str, object]] = [{"method": "quantization-aware"}]
    if wanted.pruning_epochs:
        additions.insert(0, {"sparsity": wanted.sparsity or SPARSITY})
    for addition in additions:
        candidates = [one for one in tried if one.found.channels in shares]
        for one in sorted(candidates, key=lambda one: (not one.found.fits, -one.found.score)):
            if any(getattr(one.compression, key) != value for key, value in addition.items()):
                yield one.compression.model_copy(update=addition)


def _concluded(budget: Budget, tried: list[_Tried]) -> tuple[tuple[Found, ...], Compression]:
    def rank(one: _Tried) -> tuple[float, float, int]:
        return max(1.0, one.found.excess(budget)), -one.found.score, one.found.transfer

    best, *others = sorted(tried, key=rank)
    founds = [one.found for one in tried]
    table = [
        one.found.model_copy(update={"best": one is best, "front": not _beaten(one.found, founds)})
        for one in (best, *others)
    ]
    return tuple(table), best.compression


def _beaten(one: Found, others: Sequence[Found]) -> bool:
    """Whether another is as good in every respect and better in one (Pareto)."""

    def figures(found: Found) -> tuple[float, ...]:
        return -found.score, found.size, found.transfer, found.latency

    mine = figures(one)
    return any(
        figures(other) != mine and all(a <= b for a, b in zip(figures(other), mine, strict=True))
        for other in others
    )
