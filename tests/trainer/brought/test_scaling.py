"""From gray levels to the numbers that a model was trained on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import BadInputError
from edge.inference.engine import TensorSpec
from edge.inference.predictor import _quantization_table
from trainer.brought.scaling import from_tensor, input_spec, parse_scaling

PIXELS = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)


@pytest.mark.parametrize(
    ("scale", "mean", "std", "first", "last"),
    [
        ("1/255", "0", "1", 0.0, 1.0),
        ("1", "0", "1", 0.0, 255.0),
        ("1/127.5", "1", "1", -1.0, 1.0),
        ("0.00392156862745098", "0.5", "0.25", -2.0, 2.0),
    ],
)
def test_the_usual_ways_to_write_it(scale, mean, std, first, last) -> None:
    values = parse_scaling(scale, mean, std, 1).apply(PIXELS)
    assert values.dtype == np.float32
    assert (values.min(), values.max()) == pytest.approx((first, last), abs=1e-6)


def test_one_number_a_channel() -> None:
    scaling = parse_scaling("1/255", "0.485, 0.456, 0.406", "0.229,0.224,0.225", 3)
    white = scaling.apply(np.full((1, 1, 3), 255, np.uint8))
    assert white.ravel() == pytest.approx([2.2489, 2.4286, 2.64], abs=1e-3)


@pytest.mark.parametrize("bad", ["", "x", "1/0", "1,2", "nan", "1/255/2", "0", "-1"])
def test_what_is_no_scale_is_named(bad) -> None:
    with pytest.raises(BadInputError, match="--scale: "):
        parse_scaling(bad, "0", "1", 1)


@given(st.text(max_size=12))
def test_any_text_is_numbers_or_one_line(text) -> None:
    try:
        scaling = parse_scaling("1/255", text, "1", 3)
    except BadInputError as error:
        assert str(error).startswith("--mean: ")
    else:
        assert len(scaling.mean) in (1, 3) and np.isfinite(scaling.mean).all()


@pytest.mark.parametrize(
    ("scale", "mean", "tensor"),
    [
        ("1/255", "0", TensorSpec((1, 16, 16, 1), "int8", 1 / 255, -128)),
        ("1", "0", TensorSpec((1, 16, 16, 1), "int8", 1.0, -128)),
        ("1/127.5", "1", TensorSpec((1, 16, 16, 1), "int8", 2 / 255, -1)),
        ("1/127.5", "1", TensorSpec((1, 16, 16, 1), "int8", 2 / 255, 0)),
        ("1/255", "0", TensorSpec((1, 16, 16, 1), "uint8", 1 / 255, 0)),
    ],
)
def test_every_gray_level_keeps_a_value_of_its_own(scale, mean, tensor) -> None:
    """Minus 1 to 1 in 255 steps puts each level between two values; rounding would merge every second."""
    scaling = parse_scaling(scale, mean, "1", 1)
    spec = input_spec(tensor, scaling)
    table = _quantization_table(spec)[0].astype(int)
    assert table.tolist() == list(range(table[0], table[0] + 256))
    means = (*spec.mean, *scaling.mean)
    assert max(means) - min(means) <= 0.51


def test_a_quantized_input_says_itself_how_it_was_scaled() -> None:
    tensor = TensorSpec((1, 16, 16, 1), "int8", 1 / 255, -128)
    assert from_tensor(tensor).apply(PIXELS).ravel() == pytest.approx(np.arange(256) / 255)


def test_channels_that_differ_are_left_as_they_are() -> None:
    scaling = parse_scaling("1/255", "0.485,0.456,0.406", "0.229,0.224,0.225", 3)
    spec = input_spec(TensorSpec((1, 16, 16, 3), "int8", 0.0186, -14), scaling)
    assert spec.mean == scaling.mean and len(spec.std) == 3
