from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bundle.arrays import pack, unpack
from edge.bundle.errors import BundleError
from edge.bundle.golden import Golden

INPUTS = np.arange(2 * 4 * 4, dtype=np.int8).reshape(2, 4, 4, 1)
OUTPUTS = np.array([[1, 2], [3, -100]], np.int8)


def test_golden_vectors_survive_the_file() -> None:
    golden = Golden(INPUTS, OUTPUTS, "xnnpack-x86_64", 3)
    back = Golden.from_npz(golden.to_npz())
    assert np.array_equal(back.inputs, INPUTS) and np.array_equal(back.outputs, OUTPUTS)
    assert (back.inputs.dtype, back.kernel, back.tolerance) == (np.int8, "xnnpack-x86_64", 3)
    assert golden.to_npz() == back.to_npz()


def test_the_difference_does_not_wrap_around() -> None:
    golden = Golden(INPUTS, OUTPUTS, "k", 3)
    assert golden.difference(OUTPUTS) == 0
    assert golden.difference(np.array([[1, 2], [3, 127]], np.int8)) == 227


def test_vectors_that_prove_nothing_are_refused() -> None:
    with pytest.raises(BundleError, match="do not vary"):
        Golden(INPUTS, np.ones((2, 2), np.int8), "k", 3)
    with pytest.raises(BundleError, match="inputs"):
        Golden(INPUTS, OUTPUTS[:1], "k", 3)


@pytest.mark.parametrize(
    "arrays",
    [
        {"inputs": INPUTS},
        {"inputs": INPUTS, "outputs": OUTPUTS, "kernel": np.array(3), "tolerance": np.array(3)},
        {"inputs": INPUTS, "outputs": OUTPUTS, "kernel": np.array("k"), "tolerance": np.array(0.5)},
        {"inputs": INPUTS, "outputs": OUTPUTS, "kernel": np.array(["k", "k"]), "tolerance": np.array(1)},
        {"inputs": INPUTS[0], "outputs": OUTPUTS, "kernel": np.array("k"), "tolerance": np.array(1)},
    ],
)
def test_other_arrays_are_refused(arrays) -> None:
    with pytest.raises(BundleError):
        Golden.from_npz(pack(arrays))


def test_pickles_and_compressed_arrays_are_refused(tmp_path) -> None:
    np.savez(tmp_path / "pickle.npz", a=np.array([{}], object))
    np.savez_compressed(tmp_path / "small.npz", a=np.zeros(10_000_000))
    for name in ("pickle.npz", "small.npz"):
        with pytest.raises(BundleError, match="origin: "):
            unpack((tmp_path / name).read_bytes(), "origin")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_files_are_refused_in_one_line(data) -> None:
    whole = bytearray(Golden(INPUTS, OUTPUTS, "k", 3).to_npz())
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(0, len(whole) - 1)) :]
    else:
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        Golden.from_npz(bytes(whole))
    except BundleError as error:
        assert "\n" not in str(error)
