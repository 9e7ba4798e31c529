"""What a stage of training needs to go on after a kill, kept in the RUN's folder until the run is whole."""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInputError
from edge.files import write_durably
from trainer.averaging import MovingAverage
from trainer.history import Epoch

__all__ = ["Checkpoint", "Progress"]

Weights = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Checkpoint:
    """The file of one stage. It is replaced at once or not at all."""

    path: Path

    def read(self) -> tuple[dict[str, Any], dict[str, Weights]] | None:
        """The facts and the arrays that were written last; None at the start.

        Raises:
            BadInputError: the file is damaged.
        """
        if not self.path.exists():
            return None
        try:
            with np.load(self.path) as file:
                facts = json.loads(str(file["facts"]))
                return facts, {
                    name: [file[f"{name}{number}"] for number in range(count)]
                    for name, count in facts["arrays"].items()
                }
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise BadInputError(f"{self.path}: is damaged; remove it to train this stage again") from error

    def write(self, facts: dict[str, Any], arrays: dict[str, Weights]) -> None:
        """Replace what was written.

        Raises:
            BadInputError: the folder cannot be written to.
        """
        counts = {name: len(listed) for name, listed in arrays.items()}
        named: dict[str, Any] = {
            f"{name}{number}": a for name, listed in arrays.items() for number, a in enumerate(listed)
        }
        buffer = io.BytesIO()
        np.savez(buffer, facts=np.array(json.dumps(facts | {"arrays": counts})), **named)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(self.path, buffer.getvalue())
        except OSError as error:
            raise BadInputError(f"{self.path}: cannot be written ({error.strerror})") from error


class Progress:
    """How far a stage is: its epochs, the best weights so far, and all that the next epoch starts from."""

    def __init__(
        self, model: Any, optimizer: Any, average: MovingAverage, checkpoint: Checkpoint | None
    ) -> None:
        self._model, self._optimizer, self._average, self._checkpoint = model, optimizer, average, checkpoint
        self.history: list[Epoch] = []
        self.finished = False
        self.best = math.inf
        self.best_weights: Weights = model.get_weights()
        self.since_best = 0
        found = checkpoint.read() if checkpoint else None
        if found:
            self._restore(*found)

    def judge(self, loss: float, weights: Weights) -> None:
        """Keep the weights if their tuning loss is the least so far."""
        if loss < self.best:
            self.best, self.best_weights, self.since_best = loss, weights, 0
        else:
            self.since_best += 1

    def save(self, epoch: Epoch, last: bool) -> None:
        """Note an epoch; ``last`` ends the stage, and only the best weights are kept of it."""
        self.history.append(epoch)
        self.finished = last
        if self._checkpoint is None:
            return
        arrays = {"best": self.best_weights}
        if not last:
            arrays |= {
                "model": self._model.get_weights(),
                "optimizer": [np.asarray(v) for v in self._optimizer.variables],
                "average": [np.asarray(v) for v in self._average.shadows],
            }
        facts = {
            "history": [asdict(epoch) for epoch in self.history],
            "finished": self.finished,
            "best": None if math.isinf(self.best) else self.best,
            "since_best": self.since_best,
            "updates": self._average.updates,
        }
        self._checkpoint.write(facts, arrays)

    def _restore(self, facts: dict[str, Any], arrays: dict[str, Weights]) -> None:
        self.history, self.finished = [Epoch(**epoch) for epoch in facts["history"]], facts["finished"]
        self.best = math.inf if facts["best"] is None else facts["best"]
        self.since_best, self._average.updates = facts["since_best"], facts["updates"]
        self.best_weights = arrays["best"]
        if self.finished:
            return
        self._model.set_weights(arrays["model"])
        for name, variables in (
            ("optimizer", self._optimizer.variables),
            ("average", self._average.shadows),
        ):
            for variable, value in zip(variables, arrays[name], strict=True):
                variable.assign(value)
