from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bundle.manifest import Operator
from edge.bundle.target import target, target_names
from edge.errors import BadInputError, ScanwrightError
from trainer.packaging.operators import check_target, least_version, operators
from trainer.packaging.vectors import pictures


def test_operators_are_read_with_their_versions(tiny_model) -> None:
    found = operators(tiny_model, "tiny")
    assert [(o.name, o.version) for o in found] == [("CONV_2D", 3), ("FULLY_CONNECTED", 4), ("MEAN", 2)]


@settings(max_examples=200, deadline=None)
@given(position=st.integers(0, 300), value=st.integers(0, 255), length=st.integers(0, 2616))
def test_damaged_models_are_refused_in_one_line(tiny_model, position, value, length) -> None:
    damaged = bytearray(tiny_model[:length])
    if position < length:
        damaged[position] = value
    try:
        operators(bytes(damaged), "file")
    except BadInputError as error:
        assert str(error).startswith("file: ")


def test_the_least_version_is_the_oldest_or_the_converters() -> None:
    old, new = Operator(name="CONV_2D", version=3), Operator(name="FULLY_CONNECTED", version=12)
    assert least_version([old], {}) == "2.14.0"
    assert least_version([old, new], {"tensorflow": "2.21.0"}) == "2.21.0"
    with pytest.raises(ScanwrightError, match="FULLY_CONNECTED v12"):
        least_version([old, new], {})


@pytest.mark.parametrize("channels", [1, 3])
def test_golden_pictures_fit_the_input_and_differ(tiny_manifest, channels) -> None:
    spec = tiny_manifest().input.model_copy(update={"channels": channels, "height": 20, "width": 31})
    found = pictures(spec)
    assert {picture.shape for picture in found} == {(20, 31) if channels == 1 else (20, 31, 3)}
    assert len({picture.tobytes() for picture in found}) == len(found) >= 6


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        ("FlexErf", 1, "custom operator FlexErf"),
        ("TFLite_Detection_PostProcess", 1, "custom operator TFLite_Detection_PostProcess"),
        ("HASHTABLE_LOOKUP_OF_TOMORROW", 1, "HASHTABLE_LOOKUP_OF_TOMORROW"),
        ("STABLEHLO_CBRT", 1, "the operator STABLEHLO_CBRT"),
        ("CONV_2D", 9, "CONV_2D up to version 8, the model needs version 9"),
    ],
)
def test_an_operator_that_no_cart_has_is_refused_by_name(name, version, said) -> None:
    used = [Operator(name="MEAN", version=1), Operator(name=name, version=version)]
    for board in target_names():
        with pytest.raises(ScanwrightError, match=f"m.tflite: {board}'s .*{said}"):
            check_target(used, target(board), "m.tflite")


def test_the_older_interpreter_is_judged_by_its_own_table() -> None:
    newer = [Operator(name="FULLY_CONNECTED", version=12)]
    check_target(newer, target("raspberry-pi-5"), "m")
    older = target("raspberry-pi-5").model_copy(update={"interpreter": "tflite-runtime"})
    with pytest.raises(ScanwrightError, match="FULLY_CONNECTED up to version 10"):
        check_target(newer, older, "m")
