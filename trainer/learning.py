"""The float network: its teachers where the recipe has some, then the one that ships."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.errors import BadInputError
from trainer.backend import keras, tf
from trainer.checkpoint import Checkpoint
from trainer.history import Epoch
from trainer.models import build
from trainer.preparation import Prepared
from trainer.progress import Reporter
from trainer.recipe import ModelSpec
from trainer.training import Images, Plan, fit

__all__ = ["Ensemble", "Lesson", "learn"]


class Lesson:
    """One training's data, plan and progress, from which each of its stages is begun.

    Args:
        prepared: the data and the recipe.
        seed: of the weights and of every draw.
        reporter: is told after each epoch.
        kept: folder where stages keep what they need to go on after a kill; None keeps nothing.
        strategy: of ``tf.distribute``, under which float networks are trained; None is this process alone.
    """

    def __init__(
        self,
        prepared: Prepared,
        seed: int,
        reporter: Reporter,
        kept: Path | None = None,
        strategy: Any = None,
    ) -> None:
        self.prepared, self.seed, self.reporter = prepared, seed, reporter
        self.strategy = strategy or tf.distribute.get_strategy()
        self._kept = kept
        self.train, self.tune = (
            Images(part.pixels, part.targets, part.masks) for part in (prepared.train, prepared.tune)
        )

    def plan(self, stage: str, **changes: Any) -> Plan:
        """The recipe's plan for a stage of this name, with changes."""
        training = self.prepared.recipe.training
        checkpoint = None
        if self._kept is not None:
            checkpoint = Checkpoint(self._kept / f"{stage.replace(' ', '-')}.npz")
        plan = Plan(
            stage=stage,
            task=self.prepared.recipe.task,
            training=training,
            augmentation=self.prepared.recipe.augmentation,
            seed=self.seed,
            epochs=training.epochs,
            learning_rate=training.learning_rate,
            head_epochs=training.head_epochs,
            checkpoint=checkpoint,
        )
        return replace(plan, **changes)

    def fit(self, title: str, model: Any, plan: Plan) -> list[Epoch]:
        """Train ``model`` in place, with a progress bar."""
        with self.reporter.epochs(title, plan.epochs) as after:
            return fit(model, self.train, self.tune, plan, lambda epoch: after(epoch.epoch, epoch.words))

    def network(self, spec: ModelSpec) -> Any:
        """A network for the data, not trained on it yet.

        Raises:
            BadInputError: see :func:`trainer.models.build`; or whether it draws masks does not fit the task.
        """
        with self.strategy.scope():
            model = build(spec, self.prepared.input_shape, len(self.prepared.labels))
        draws = len(model.outputs) > 1
        if draws != (self.prepared.recipe.task == "segmentation"):
            raise BadInputError(
                f"model.kind: the network '{spec.kind}' "
                + ("draws masks; only a segmentation has them" if draws else "draws no masks; take 'unet'")
            )
        return model


class Ensemble:
    """Networks that answer together: logits ``[n, K]`` of their mean probabilities.

    Lakshminarayanan, Pritzel and Blundell 2017.
    """

    def __init__(self, networks: Sequence[Any], task: str) -> None:
        self._networks, self._single = tuple(networks), task == "single-label"

    def __call__(self, images: Any, training: bool = False) -> Any:
        answers = [network(images, training=training) for network in self._networks]
        function = tf.nn.softmax if self._single else tf.sigmoid
        mean = tf.clip_by_value(
            tf.add_n([function(answer) for answer in answers]) / len(answers), 1e-6, 1 - 1e-6
        )
        return tf.math.log(mean) if self._single else tf.math.log(mean) - tf.math.log(1.0 - mean)


def learn(lesson: Lesson) -> tuple[Any, list[Epoch]]:
    """The trained float network, and the history of all stages.

    Teachers are trained one after the other, each from a seed of its own, and the network then learns their
    mean probabilities.
    """
    recipe = lesson.prepared.recipe
    history: list[Epoch] = []
    changes: dict[str, Any] = {}
    if recipe.distillation:
        taught = []
        for number, spec in enumerate(recipe.distillation.teachers, 1):
            keras.utils.set_random_seed(lesson.seed + number)
            network = lesson.network(spec.model)
            plan = lesson.plan(
                f"teacher {number}",
                epochs=spec.epochs,
                learning_rate=spec.learning_rate,
                head_epochs=spec.head_epochs,
                seed=lesson.seed + number,
            )
            history += lesson.fit(
                f"Training teacher {number} of {len(recipe.distillation.teachers)}", network, plan
            )
            taught.append(network)
        # The teachers' answers carry both already.
        training = recipe.training.model_copy(update={"class_weights": False, "label_smoothing": 0.0})
        changes = {
            "teacher": Ensemble(taught, recipe.task),
            "training": training,
            "label_share": recipe.distillation.label_share,
        }
    keras.utils.set_random_seed(lesson.seed)
    model = lesson.network(recipe.model)
    history += lesson.fit("Training", model, lesson.plan("float", **changes))
    # What follows runs in one process, so the result belongs to no strategy.
    alone = keras.models.clone_model(model)
    alone.set_weights(model.get_weights())
    return alone, history
