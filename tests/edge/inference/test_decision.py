from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle.reasons import Reason
from edge.errors import BadInputError
from edge.inference.decision import decide, probabilities, site_thresholds
from edge.inference.ood import OodModel
from edge.inference.prediction import Prediction

GOOD = {"side": 200.0, "brightness": 100.0, "contrast": 40.0, "sharpness": 100.0, "colour": 0.0}
NEAR = np.zeros(4, np.float32)
FAR = np.full(4, 100, np.float32)
GATE = OodModel(np.zeros(4, np.float32), np.eye(4, dtype=np.float32), 5.0)


def prediction(*chances: float, embedding=NEAR, **measures: float) -> Prediction:
    """A Prediction whose softmax, at temperature 1, is ``chances``."""
    return Prediction(
        np.log(np.array(chances, np.float32)), embedding=embedding, quality={**GOOD, **measures}
    )


@pytest.fixture
def manifest(tiny_manifest):
    """Makes manifests with other decisions; the gate's limit is 5."""

    def make(**decision):
        labels = decision.pop("labels", ["normal", "lesion"])
        outputs = tiny_manifest().model_dump(mode="json")["outputs"]
        usual = {"negative_label": "normal", "thresholds": {"lesion": {"value": 0.5, "min": 0.2, "max": 0.8}}}
        usual["ood"] = {"limit": 5.0, "rejection": 0.02}
        task = decision.pop("task", "single-label")
        return tiny_manifest(labels=labels, outputs=outputs, task=task, decision={**usual, **decision})

    return make


def test_at_the_threshold_is_positive_and_below_is_negative(manifest) -> None:
    positive = decide(prediction(0.5, 0.5), manifest(), GATE)
    assert (positive.decision, positive.label) == ("positive", "lesion")
    assert positive.probability == pytest.approx(0.5)
    assert positive.probabilities == pytest.approx({"normal": 0.5, "lesion": 0.5})
    assert (positive.thresholds, positive.reasons) == ({"lesion": 0.5}, ())
    assert (positive.ood_score, positive.ood_limit) == (0.0, 5.0)
    negative = decide(prediction(0.51, 0.49), manifest(), GATE)
    assert (negative.decision, negative.label) == ("negative", "normal")
    assert negative.probability == pytest.approx(0.51, abs=1e-6)


def test_of_several_the_one_furthest_above_its_threshold_is_named(manifest) -> None:
    three = {
        "labels": ["normal", "cyst", "mass"],
        "thresholds": {"cyst": {"value": 0.4}, "mass": {"value": 0.1}},
    }
    found = decide(prediction(0.2, 0.5, 0.3), manifest(**three), GATE)
    assert (found.label, found.probability) == ("mass", pytest.approx(0.3))
    three["thresholds"]["mass"] = {"value": 0.0}
    assert decide(prediction(0.2, 0.5, 0.3), manifest(**three), GATE).label == "mass"


def test_without_a_negative_label_a_negative_names_none(manifest) -> None:
    found = decide(prediction(0.7, 0.3), manifest(negative_label=None), GATE)
    assert (found.decision, found.label, found.probability) == ("negative", None, None)
    assert found.probabilities


def test_any_reason_withholds_every_number(manifest) -> None:
    found = decide(prediction(0.5, 0.5, embedding=FAR, brightness=1), manifest(abstain_below=0.9), GATE)
    assert found.decision == "no_result"
    assert (found.label, found.probability, found.probabilities) == (None, None, {})
    assert found.reasons == (Reason.TOO_DARK, Reason.OUT_OF_DISTRIBUTION, Reason.UNCERTAIN)
    assert (found.ood_score, found.ood_limit) == (200.0, 5.0)


def test_each_gate_works_alone(manifest) -> None:
    assert decide(prediction(0.9, 0.1, embedding=FAR), manifest(), GATE).reasons == (
        Reason.OUT_OF_DISTRIBUTION,
    )
    assert decide(prediction(0.9, 0.1, embedding=FAR * np.nan), manifest(), GATE).reasons == (
        Reason.OUT_OF_DISTRIBUTION,
    )
    assert decide(prediction(0.6, 0.4), manifest(abstain_below=0.7), GATE).reasons == (Reason.UNCERTAIN,)
    assert decide(prediction(np.nan, 0.4), manifest(), GATE).reasons == (Reason.UNCERTAIN,)
    no_gate = decide(prediction(0.9, 0.1, embedding=FAR), manifest(ood=None))
    assert (no_gate.reasons, no_gate.ood_score, no_gate.ood_limit) == ((), None, None)


def test_a_gate_without_its_model_is_an_error_not_a_pass(manifest) -> None:
    with pytest.raises(ValueError, match="gate"):
        decide(prediction(0.9, 0.1), manifest())
    with pytest.raises(ValueError, match="gate"):
        decide(prediction(0.9, 0.1, embedding=None), manifest(), GATE)


def test_a_site_may_move_a_threshold_within_its_limits(manifest) -> None:
    assert decide(prediction(0.6, 0.4), manifest(), GATE, {"lesion": 0.3}).decision == "positive"
    assert site_thresholds(manifest(), {}) == {"lesion": 0.5}
    with pytest.raises(BadInputError, match=r"0\.2 to 0\.8"):
        site_thresholds(manifest(), {"lesion": 0.9})
    with pytest.raises(BadInputError, match=r"thresholds\.tumour"):
        site_thresholds(manifest(), {"tumour": 0.5})


def test_temperature_softens_and_multi_label_uses_sigmoids(manifest) -> None:
    logits = np.array([[-2.0, 2.0], [800.0, -800.0]])
    soft = probabilities(logits, manifest(temperature=2.0))
    assert soft[0, 1] == pytest.approx(1 / (1 + np.exp(-2)))
    np.testing.assert_allclose(soft[1], [1, 0])
    several = probabilities(logits, manifest(task="multi-label"))
    np.testing.assert_allclose(several[0], 1 / (1 + np.exp(-logits[0])))
    np.testing.assert_allclose(several[1], [1, 0])


@given(st.lists(st.floats(-500, 500), min_size=2, max_size=2), st.floats(0.05, 20))
def test_probabilities_keep_the_order_and_sum_to_one(tiny_manifest, logits, temperature) -> None:
    decision = {"temperature": temperature, "thresholds": {}}
    found = probabilities(np.array(logits), tiny_manifest(decision=decision))
    assert found.sum() == pytest.approx(1)
    assert (found[0] >= found[1]) == (logits[0] >= logits[1]) or found[0] == pytest.approx(found[1])


def test_the_tiny_bundle_decides_as_its_pictures_say(tmp_path, tiny_bundle, picture) -> None:
    from edge.bundle.archive import open_bundle
    from edge.imaging.frame import Frame
    from edge.inference.predictor import Predictor

    predictor = Predictor(open_bundle(tiny_bundle(tmp_path / "tiny.swb")))

    def found(kind: str, seed: int):
        return decide(
            predictor.predict(Frame(picture(kind, seed, 200), "i", "s", "t")),
            predictor.manifest,
            predictor.ood,
        )

    for seed in range(200, 220):
        assert found("normal", seed).decision == "negative"
        assert found("lesion", seed).label == "lesion"
    assert Reason.OUT_OF_DISTRIBUTION in found("foreign", 0).reasons
    assert found("blank", 0).decision == "no_result"
