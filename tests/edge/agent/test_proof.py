"""What a new bundle has to show before it is used, and while it is watched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge.agent.config import UpdateConfig
from edge.agent.model import Model
from edge.agent.proof import Recent, Seen, Window, shadow
from edge.bundle.manifest import IntendedUse
from edge.imaging.frame import Frame, Header
from edge.inference.engine import EngineError
from edge.inference.prediction import Prediction
from edge.mqtt.payloads import Finding
from edge.update.release import RefusedError
from tests.conftest import tiny_picture

LIMITS = UpdateConfig(repositories=("x",), root=Path("x"), health_s=100)


@pytest.fixture
def model(tmp_path, tiny_bundle) -> Model:
    path = tiny_bundle(tmp_path / "tiny.swb")
    return Model(path, allow_unsigned=True, target=None, threads=1, interpreter="auto")


def frame(number: int, **changes) -> Frame:
    kind = "lesion" if number % 2 else "normal"
    return Frame(tiny_picture(kind, number), f"f{number}", "study", "test", **changes)


def seen(model: Model, count: int, elapsed_ms: float = 100.0) -> list[Seen]:
    found = []
    for number in range(count):
        one = frame(number, header=Header(modality="US"))
        _, outcome = model.look(one)
        probabilities = tuple(outcome.probabilities.values())
        found.append(Seen(one, outcome.decision, outcome.label, probabilities, elapsed_ms))
    return found


class Fake:
    """A bundle that says what it is told to."""

    def __init__(
        self, model: Model, logits=None, decision=None, ms: float = 1.0, fails: bool = False
    ) -> None:
        self.manifest, self._model = model.manifest, model
        self._logits, self._decision, self._ms, self._fails = logits, decision, ms, fails

    def look(self, one: Frame):
        if self._fails:
            raise EngineError("broken")
        prediction, outcome = self._model.look(one)
        logits = prediction.logits if self._logits is None else np.asarray(self._logits, np.float32)
        said = outcome if self._decision is None else SimpleNamespace(decision=self._decision, label=None)
        return Prediction(logits, elapsed_ms={"infer": self._ms}), said


def refusal(model, frames, limits=LIMITS) -> str:
    with pytest.raises(RefusedError) as error:
        shadow(model, frames, limits, lambda: None)
    return error.value.code


def test_the_same_network_agrees_with_itself(model):
    proof = shadow(model, seen(model, 8), LIMITS, lambda: None)
    assert (proof.frames, proof.agreement) == (8, 1.0)
    assert proof.slowdown < 1


def test_without_frames_nothing_is_claimed(model):
    proof = shadow(model, [], LIMITS, lambda: None)
    assert (proof.frames, proof.agreement, proof.slowdown) == (0, None, None)


def test_a_constant_network_is_noticed_even_where_it_happens_to_agree(model):
    frames = [replace(one, decision="negative", label="normal") for one in seen(model, 8)]
    frames = [replace(one, probabilities=(0.9, n / 100)) for n, one in enumerate(frames)]
    fake = Fake(model, logits=[3.0, -3.0], decision="negative")
    assert refusal(fake, frames) == "constant"


def test_a_network_that_decides_otherwise_is_noticed(model):
    frames = seen(model, 8)
    turned = [replace(one, label="normal" if one.label == "lesion" else "lesion") for one in frames]
    assert refusal(model, turned) == "disagrees"
    # As often as it is allowed to, it may: 2 of 10 frames, and not 3.
    frames = seen(model, 10)
    for wrong, allowed in ((2, True), (3, False)):
        some = [replace(one, label="other") if n < wrong else one for n, one in enumerate(frames)]
        if allowed:
            assert shadow(model, some, LIMITS, lambda: None).agreement == 0.8
        else:
            assert refusal(model, some) == "disagrees"


def test_a_network_without_results_that_fails_or_is_slow_is_noticed(model):
    frames = seen(model, 8)
    assert refusal(Fake(model, decision="no_result"), frames) == "no_results"
    assert refusal(Fake(model, fails=True), frames) == "engine_failed"
    assert refusal(Fake(model, ms=201), frames) == "slow"
    assert shadow(Fake(model, ms=199), frames, LIMITS, lambda: None).slowdown == 1.99
    # A few milliseconds are no slowness, whatever the ratio.
    assert shadow(Fake(model, ms=30), seen(model, 8, 1.0), LIMITS, lambda: None).slowdown == 30


def test_a_network_that_does_not_cover_what_comes_disagrees(model):
    use = IntendedUse(statement="Something else.", modality=("DX",))
    other = Fake(model)
    other.manifest = model.manifest.model_copy(update={"intended_use": use})
    assert refusal(other, seen(model, 8)) == "no_results"


def finding(model: Model, decision: str = "negative", reasons=(), ms: float = 1.0) -> Finding:
    return Finding.model_construct(
        bundle=model.ref,
        decision=decision,
        label=None,
        probabilities={},
        reasons=reasons,
        elapsed_ms={"infer": ms},
    )


def verdict(window: Window, now: float) -> bool | str:
    try:
        return window.verdict(now)
    except RefusedError as error:
        return error.code


def test_what_is_well_for_long_enough_is_committed(model):
    window = Window(LIMITS, seen(model, 8), 0.0)
    for _ in range(20):
        window.add(finding(model))
    assert (verdict(window, 99), verdict(window, 100)) == (False, True)


def test_the_watch_ends_at_once_with_what_is_wrong(model):
    before = seen(model, 8)
    failing, empty, slow = (Window(LIMITS, before, 0.0) for _ in range(3))
    failing.add(finding(model, "no_result", ("engine_failed",)))
    assert verdict(failing, 1) == "engine_failed"
    for _ in range(20):  # blank frames are no fault of the bundle's
        empty.add(finding(model, "no_result", ("blurred",)))
    assert verdict(empty, 1) is False
    for _ in range(5):
        empty.add(finding(model, "no_result", ("blurred",)), withheld=True)
    assert verdict(empty, 1) is False
    empty.add(finding(model, "no_result", ("blurred",)), withheld=True)
    assert verdict(empty, 1) == "no_results"
    for _ in range(10):
        slow.add(finding(model, ms=500))
    assert verdict(slow, 1) == "slow"


def test_a_cart_without_images_commits_by_time(model):
    assert verdict(Window(LIMITS, (), 0.0), 101) is True


def test_real_frames_are_remembered_within_bounds_and_practice_frames_are_not(model):
    recent = Recent(3)
    for number in range(5):
        recent.add(frame(number), finding(model))
    recent.add(frame(9, test=True), finding(model))
    assert [one.frame.identity for one in recent.of("tiny")] == ["f2", "f3", "f4"]
    large = Frame(np.zeros((6000, 6000), np.uint8), "large", "study", "test")
    for _ in range(3):
        recent.add(large, finding(model))
    assert len(recent.of("tiny")) == 1
