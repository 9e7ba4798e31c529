"""Graphs are brought into form, and answer as before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edge.errors import BadInputError, ScanwrightError
from trainer.brought.check import check_form, run
from trainer.brought.graph import bring_into_form


def test_softmax_goes_and_map_and_embedding_come(foreign, images) -> None:
    given = (foreign / "float.tflite").read_bytes()
    brought = bring_into_form(given, "m")
    assert brought.outputs == ("logits", "embedding", "cam")
    assert (brought.height, brought.width, brought.channels, brought.classes) == (32, 32, 1, 2)
    assert (brought.ending, brought.quantized) == ("softmax", False)
    assert check_form(given, brought, images, "m") < 1e-5
    logits, embedding, cam = run(brought.model, images)
    assert (embedding.shape, cam.shape) == ((8, 4), (8, 8, 8, 2))
    rest = logits - cam.mean(axis=(1, 2))
    np.testing.assert_allclose(rest, np.tile([5.4, -5.6], (8, 1)), atol=1e-4)
    assert any("taken off" in note for note in brought.notes)
    assert any("recovered" in note for note in brought.notes)


def test_without_an_average_there_is_no_map_and_that_is_said(foreign, images) -> None:
    given = (foreign / "flat.tflite").read_bytes()
    brought = bring_into_form(given, "m")
    assert brought.outputs == ("logits", "embedding") and brought.ending == "logits"
    assert brought.notes == ("The network does not end in a global average: the heat map is off.",)
    assert check_form(given, brought, images, "m") == 0


def test_a_single_score_becomes_two_logits(foreign, images) -> None:
    given = (foreign / "single.tflite").read_bytes()
    brought = bring_into_form(given, "m")
    assert (brought.classes, brought.ending) == (2, "sigmoid")
    assert brought.outputs == ("logits", "embedding", "cam")
    assert check_form(given, brought, images, "m") < 1e-5
    logits = run(brought.model, images)[0]
    np.testing.assert_allclose(logits[:, 0], -logits[:, 1], atol=1e-5)
    assert any("two logits" in note for note in brought.notes)


def test_a_quantized_file_keeps_its_values_and_gets_no_map(foreign) -> None:
    brought = bring_into_form((foreign / "int8.tflite").read_bytes(), "m")
    assert brought.quantized and brought.outputs == ("logits", "embedding")
    assert any("quantized already" in note for note in brought.notes)
    names = operator_names(brought.model)
    assert "SOFTMAX" not in names and "QUANTIZE" not in names and "DEQUANTIZE" not in names


def test_answers_that_change_are_noticed(foreign, images) -> None:
    given = (foreign / "float.tflite").read_bytes()
    other = replace(bring_into_form(given, "m"), ending="sigmoid")
    with pytest.raises(ScanwrightError, match="m: answers differently"):
        check_form(given, other, images, "m")
    with pytest.raises(ScanwrightError, match="same answer; are --scale"):
        check_form(given, bring_into_form(given, "m"), images[:1], "m")


def test_what_carts_cannot_run_is_refused_in_one_line(foreign, tiny_model) -> None:
    with pytest.raises(BadInputError, match="m: has 1 inputs and 3 outputs"):
        bring_into_form(tiny_model, "m")
    with pytest.raises(BadInputError, match="m: not a TensorFlow Lite model"):
        bring_into_form(b"nothing", "m")
    tall = edited((foreign / "float.tflite").read_bytes(), lambda part: set_shape(part, [1, 32, 32, 4]))
    with pytest.raises(BadInputError, match=r"takes \[1, 32, 32, 4\].*1 or 3 channels"):
        bring_into_form(tall, "m")


def set_shape(part, shape) -> None:
    part.tensors[part.inputs[0]].shape = shape


def edited(model: bytes, change) -> bytes:
    import flatbuffers

    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    change(tree.subgraphs[0])
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def operator_names(model: bytes) -> set[str]:
    from trainer.packaging.operators import operators

    return {operator.name for operator in operators(model, "m")}
