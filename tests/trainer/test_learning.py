"""A training goes on after a kill, a student learns from its teachers, and several processes train as one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("tensorflow")

from edge.errors import BadInputError
from trainer.backend import keras, tf
from trainer.checkpoint import Checkpoint
from trainer.distribution import strategy
from trainer.history import Epoch
from trainer.learning import Ensemble
from trainer.models import build
from trainer.recipe import Augmentation, ModelSpec, Training
from trainer.training import Images, Plan, fit, predict

pytestmark = pytest.mark.slow

SPEC = ModelSpec(kind="cnn", width=0.25, dropout=0)
PLAN = Plan(
    stage="float",
    task="single-label",
    training=Training(average_decay=0.9, batch_size=16, optimizer="adamw", patience=50),
    augmentation=Augmentation(),
    seed=3,
    epochs=4,
    learning_rate=3e-3,
)


@pytest.fixture(scope="module")
def images() -> Images:
    """Dark and bright squares of noise."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 64)
    pixels = random.integers(0, 100, (64, 16, 16, 1)) + 100 * truth[:, None, None, None]
    return Images(pixels.astype(np.uint8), np.eye(2, dtype=np.float32)[truth])


def network() -> Any:
    keras.utils.set_random_seed(1)
    return build(SPEC, (16, 16, 1), 2)


def trained(images: Images, plan: Plan, stop_after: int | None = None) -> tuple[Any, list[Epoch]]:
    model, told = network(), []

    def on_epoch(epoch: Epoch) -> None:
        told.append(epoch)
        if len(told) == stop_after:
            raise KeyboardInterrupt

    try:
        fit(model, images, images, plan, on_epoch)
    except KeyboardInterrupt:
        assert stop_after
    return model, told


def test_a_stage_that_was_stopped_ends_as_if_it_had_not_been(images: Images, tmp_path: Path) -> None:
    whole, expected = trained(images, PLAN)
    plan = replace(PLAN, checkpoint=Checkpoint(tmp_path / "float.npz"))
    trained(images, plan, stop_after=3)
    model, told = trained(images, plan)
    assert [epoch.epoch for epoch in told] == [1, 2, 3, 4]
    assert [epoch.loss for epoch in told] == pytest.approx([epoch.loss for epoch in expected], rel=1e-3)
    for one, other in zip(model.get_weights(), whole.get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-3)


def test_a_finished_stage_is_not_done_again(images: Images, tmp_path: Path) -> None:
    plan = replace(PLAN, epochs=2, checkpoint=Checkpoint(tmp_path / "float.npz"))
    first, _ = trained(images, plan)
    written = plan.checkpoint.path.read_bytes() if plan.checkpoint else b""
    again, told = trained(images, plan)
    assert len(told) == 2 and plan.checkpoint and plan.checkpoint.path.read_bytes() == written
    assert np.array_equal(predict(first, images.pixels), predict(again, images.pixels))


def test_a_damaged_checkpoint_is_named(images: Images, tmp_path: Path) -> None:
    path = tmp_path / "float.npz"
    path.write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(BadInputError, match=r"float\.npz: is damaged; remove it"):
        trained(images, replace(PLAN, checkpoint=Checkpoint(path)))


@pytest.mark.parametrize(
    ("schedule", "epochs", "kept"), [("cosine", 10, slice(8, 10)), ("constant", 4, slice(0, 1))]
)
def test_only_weights_that_have_settled_are_compared(
    images: Images, schedule: Any, epochs: int, kept: slice
) -> None:
    wrong = Images(images.pixels, 1.0 - images.targets)  # the more is learned, the greater the tuning loss
    training = PLAN.training.model_copy(update={"schedule": schedule, "patience": 3})
    model, told = network(), []
    fit(model, images, wrong, replace(PLAN, epochs=10, training=training), told.append)
    assert len(told) == epochs
    logits = predict(model, images.pixels)
    loss = float(tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(wrong.targets, logits)))
    assert loss == pytest.approx(min(epoch.tune_loss for epoch in told[kept]), rel=1e-4)


def test_a_student_learns_from_its_teacher_against_the_labels(images: Images) -> None:
    def right(model: Any) -> float:
        return float((predict(model, images.pixels).argmax(axis=1) == images.targets.argmax(axis=1)).mean())

    teacher, _ = trained(images, replace(PLAN, epochs=12))
    assert right(teacher) > 0.9
    wrong = Images(images.pixels, 1.0 - images.targets)
    student = network()
    plan = replace(PLAN, epochs=12, teacher=Ensemble([teacher], "single-label"))
    fit(student, wrong, images, plan, lambda _: None)
    assert right(student) > 0.9


@pytest.mark.parametrize("task", ["single-label", "multi-label"])
def test_an_ensemble_answers_with_its_mean_probabilities(task: str) -> None:
    logits = [tf.constant([[2.0, -1.0]]), tf.constant([[-3.0, 0.5]])]
    networks = [lambda images, training, one=one: one for one in logits]
    together = Ensemble(networks, task)(None)
    function = tf.nn.softmax if task == "single-label" else tf.sigmoid
    expected = sum(np.asarray(function(one)) for one in logits) / 2
    assert np.allclose(np.asarray(function(together)), expected, atol=1e-5)


def test_only_the_head_learns_in_the_first_epochs(images: Images) -> None:
    model = network()
    before = [np.asarray(v) for v in model.layers[1].weights]
    head = np.asarray(model.get_layer("logits").kernel)
    training = PLAN.training.model_copy(update={"average_decay": 0.0, "weight_decay": 0.0})
    fit(model, images, images, replace(PLAN, epochs=1, head_epochs=1, training=training), lambda _: None)
    assert all(np.array_equal(a, np.asarray(b)) for a, b in zip(before, model.layers[1].weights, strict=True))
    assert not np.array_equal(head, np.asarray(model.get_layer("logits").kernel))


def test_what_is_frozen_follows_the_images_in_its_statistics_alone(images: Images) -> None:
    keras.utils.set_random_seed(1)
    model = build(ModelSpec(kind="efficientnet-lite0", blocks=2, frozen=1, dropout=0), (16, 16, 1), 2)
    before = {variable.name: np.asarray(variable) for variable in model.variables}
    fit(model, images, images, replace(PLAN, epochs=1), lambda _: None)
    now = {variable.name: np.asarray(variable) for variable in model.variables}
    same = {name for name, was in before.items() if np.array_equal(was, now[name])}
    kept = {name for name in before if name.startswith(("stem", "block0")) and "moving" not in name}
    assert kept and same == kept


def test_workers_without_a_cluster_are_refused_with_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "TF_CONFIG", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}'
    )
    with pytest.raises(BadInputError, match=r'TF_CONFIG: must name the workers.*"index": 0'):
        strategy("workers")


def write_images(folder: Path) -> None:
    random = np.random.default_rng(0)
    for label, level in (("normal", 60), ("bright", 160)):
        (folder / label).mkdir(parents=True)
        for number in range(16):
            picture = np.clip(random.normal(level, 30, (24, 24)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / label / f"{number}.png"), picture)


def start(data: Path, out: Path, *more: str, **environment: str) -> subprocess.Popen[str]:
    command = ["-m", "edge.cli", "train", "--data", str(data), "--out", str(out), *more]
    return subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_killed_training_goes_on_when_the_command_is_given_again(tmp_path: Path) -> None:
    write_images(tmp_path / "data")
    out = tmp_path / "run"
    command = (tmp_path / "data", out, "--epochs", "12")
    first = start(*command)
    progress = out / "unfinished" / "float.npz"
    deadline = time.monotonic() + 300
    while not progress.exists() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert progress.exists() and not (out / "manifest.json").exists()
    again = start(*command)
    said = again.communicate(timeout=400)[0]
    assert again.returncode == 0 and "Going on with the training that was interrupted" in said
    assert (out / "manifest.json").exists() and not (out / "unfinished").exists()


def test_two_workers_train_one_network_and_the_first_writes_it(tmp_path: Path) -> None:
    write_images(tmp_path / "data")
    with socket.socket() as one, socket.socket() as two:
        for end in (one, two):
            end.bind(("127.0.0.1", 0))
        workers = [f"127.0.0.1:{end.getsockname()[1]}" for end in (one, two)]
    processes = [
        start(
            tmp_path / "data",
            tmp_path / f"run{index}",
            *("--epochs", "2", "--distribute", "workers"),
            TF_CONFIG=json.dumps(
                {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            ),
        )
        for index in range(2)
    ]
    try:
        said = [process.communicate(timeout=400)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], said
    assert (tmp_path / "run0" / "manifest.json").exists() and not any((tmp_path / "run1").iterdir())
    lines = [[line for line in text.splitlines() if line.startswith("Training 2/2")] for text in said]
    assert lines[0] == lines[1] != []
