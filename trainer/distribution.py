"""Training on several accelerators or machines at once, by the strategies of ``tf.distribute``."""

from __future__ import annotations

import json
import os
from typing import Any

from edge.errors import BadInputError
from trainer.backend import quiet, tf

__all__ = ["is_chief", "strategy"]

CONFIG = "TF_CONFIG"


def strategy(kind: str | None) -> Any:
    """The strategy of this name.

    Args:
        kind: "mirrored": all accelerators of this machine (or its processor, without any) take their share of
            every batch. "workers": so do all machines that the variable ``TF_CONFIG`` names, each running the
            same command. None: this process alone.

    Raises:
        BadInputError: "workers" without a ``TF_CONFIG`` that says who they are and which of them this is.
    """
    if kind is None:
        return tf.distribute.get_strategy()
    if kind == "mirrored":
        with quiet():
            return tf.distribute.MirroredStrategy()
    try:
        config = json.loads(os.environ[CONFIG])
        if config["task"]["type"] != "worker":
            raise ValueError("every machine is a worker")
        config["cluster"]["worker"][int(config["task"]["index"])]
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise BadInputError(
            f"{CONFIG}: must name the workers and which of them this is, such as "
            '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
            '"task": {"type": "worker", "index": 0}}'
        ) from error
    with quiet():
        return tf.distribute.MultiWorkerMirroredStrategy()


def is_chief(strategy: Any) -> bool:
    """Whether this process is the one that compresses, judges and writes the RUN: worker 0."""
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.cluster_spec() or resolver.task_id == 0
