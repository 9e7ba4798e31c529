"""Files of PyTorch weights: both formats read as data, everything else refused by name."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge.errors import BadInputError
from trainer.models.torch_weights import read_weights

# Written by torch.save of PyTorch 2.13, with and without _use_new_zipfile_serialization.
FILES = {name: Path(__file__).parent / "data" / f"{name}.pth" for name in ("zip", "legacy")}


def rewritten(pickled: bytes) -> bytes:
    """The ZIP file with another pickle in it."""
    target = io.BytesIO()
    with zipfile.ZipFile(FILES["zip"]) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, pickled if info.filename.endswith("data.pkl") else old.read(info))
    return target.getvalue()


def zipped_pickle() -> bytes:
    with zipfile.ZipFile(FILES["zip"]) as archive:
        return archive.read("zip/data.pkl")


@pytest.mark.parametrize("path", FILES.values(), ids=FILES)
def test_both_formats_give_the_tensors(path: Path) -> None:
    tensors = read_weights(path)
    assert list(tensors) == [
        "0.weight",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
        "turned",
        "part",
    ]
    np.testing.assert_array_equal(tensors["0.weight"], np.arange(18, dtype=np.float32).reshape(2, 1, 3, 3))
    np.testing.assert_array_equal(tensors["1.running_var"], np.ones(2, np.float32))
    np.testing.assert_array_equal(tensors["1.num_batches_tracked"], np.int64(0))
    np.testing.assert_array_equal(tensors["turned"], np.arange(6, dtype=np.float16).reshape(2, 3).T)
    np.testing.assert_array_equal(tensors["part"], np.float32([4, 5, 6]))


@pytest.mark.parametrize("path", FILES.values(), ids=FILES)
def test_a_name_outside_the_list_is_refused_and_never_called(path: Path, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "reached"),)

    attack = pickle.dumps({"weight": Attack()}, protocol=2)
    content = path.read_bytes()
    if path == FILES["zip"]:
        content = rewritten(attack)
    else:
        state = content.index(b"\x80\x02ccollections\nOrderedDict")
        content = content[:state] + attack
    hostile = tmp_path / "hostile.pth"
    hostile.write_bytes(content)
    with pytest.raises(BadInputError, match=r"hostile\.pth: .*it asks for '(posix|nt)\.mkdir'"):
        read_weights(hostile)
    assert not (tmp_path / "reached").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cut short|exhausted"),
        (b"weights, honestly", "opcode"),
        (pickle.dumps([1.5], protocol=2), "the operation BINFLOAT"),
        (rewritten(pickle.dumps({"state_dict": {}}, protocol=2)), "'state_dict' is no tensor"),
        (rewritten(pickle.dumps([], protocol=2)), "a list instead of named tensors"),
        (rewritten(zipped_pickle().replace(b"FloatStorage", b"QuantStorage")), "'torch.QuantStorage'"),
        # The part starts four numbers into its storage of ten; from the eighth, three do not fit.
        (rewritten(zipped_pickle().replace(b"QK\x04K\x03\x85", b"QK\x08K\x03\x85")), "beyond its storage"),
        (FILES["legacy"].read_bytes()[:-4], "numbers in storage"),
    ],
)
def test_damage_is_one_line_that_names_it(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(
        BadInputError, match=rf"broken\.pth: not a file of PyTorch weights \(.*{said}"
    ) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_a_compressed_member_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(1 << 20))
    with pytest.raises(BadInputError, match="a compressed member"):
        read_weights(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"nowhere\.pth: cannot be read \(No such file"):
        read_weights(tmp_path / "nowhere.pth")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(sorted(FILES)), st.integers(0, 3500), st.binary(min_size=1, max_size=6), st.booleans())
@example("legacy", 200, b"r\xff\xff\xff\x7f", False)
@example("zip", 1589, b"\x08", False)
def test_any_change_is_read_or_refused(
    tmp_path: Path, name: str, place: int, change: bytes, cut: bool
) -> None:
    content = bytearray(FILES[name].read_bytes())
    place %= len(content)
    content[place : len(content) if cut else place + len(change)] = change
    path = tmp_path / "changed.pth"
    path.write_bytes(content)
    try:
        assert all(isinstance(tensor, np.ndarray) for tensor in read_weights(path).values())
    except BadInputError as error:
        assert str(path) in str(error)
