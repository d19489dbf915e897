"""The array container: exact, mapped, and suspicious of what it reads."""

from __future__ import annotations

import json
import mmap
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from asr.errors import ASRError
from asr.files import ALIGNMENT, load_arrays, save_arrays

DTYPES = st.sampled_from(["uint8", "uint16", "int32", "int64", "float32", "float64"])
ARRAYS = st.dictionaries(
    st.text(min_size=1, max_size=8),
    DTYPES.flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0))
    ),
    max_size=4,
)


@settings(max_examples=30, deadline=None)
@given(arrays=ARRAYS, metadata=st.dictionaries(st.text(), st.integers() | st.text(), max_size=3))
def test_what_is_loaded_is_what_was_saved(arrays, metadata, tmp_path_factory):
    path = tmp_path_factory.mktemp("arrays") / "a.bin"
    save_arrays(path, arrays, metadata)
    loaded, loaded_metadata = load_arrays(path)
    assert loaded_metadata == metadata
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_arrays_are_mapped_aligned_and_read_only(tmp_path):
    save_arrays(tmp_path / "a.bin", {"a": np.arange(3, dtype=np.uint8), "b": np.ones((2, 2))})
    arrays, _ = load_arrays(tmp_path / "a.bin")
    for array in arrays.values():
        base = array
        while isinstance(base, np.ndarray):
            base = base.base
        assert isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)
        assert array.ctypes.data % ALIGNMENT == 0
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_nothing_but_numbers_is_stored(tmp_path):
    with pytest.raises(ValueError, match="cannot be stored"):
        save_arrays(tmp_path / "a.bin", {"a": np.array([{}], dtype=object)})
    assert list(tmp_path.iterdir()) == []


def test_a_file_cut_short_is_refused_wherever_it_is_cut(tmp_path):
    path = tmp_path / "a.bin"
    save_arrays(path, {"a": np.arange(100.0)}, {"k": "v"})
    whole = path.read_bytes()
    for length in (0, 5, 15, 16, 60, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ASRError, match=r"a\.bin"):
            load_arrays(path)


def _with_header(path: Path, header: bytes, *, version: int = 1, length: int | None = None) -> Path:
    size = len(header) if length is None else length
    path.write_bytes(struct.pack("<8sII", b"ASRARRAY", version, size) + header + bytes(256))
    return path


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "object", "shape": [1], "offset": 0},
        {"dtype": "float32", "shape": [-1], "offset": 0},
        {"dtype": "float32", "shape": [1 << 40, 1 << 40], "offset": 0},
        {"dtype": "float32", "shape": [1], "offset": -64},
        {"dtype": "float32", "shape": [1], "offset": 3},
        {"dtype": "float32", "shape": [1], "offset": 1 << 50},
        {"dtype": "float32", "shape": "1", "offset": 0},
        {"dtype": "float32", "shape": [True], "offset": 0},
        {"dtype": ["float32"], "shape": [1], "offset": 0},
        {"shape": [1], "offset": 0},
        17,
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, entry):
    header = json.dumps({"metadata": {}, "arrays": {"a": entry}}).encode()
    with pytest.raises(ASRError, match="damaged"):
        load_arrays(_with_header(tmp_path / "a.bin", header))


@pytest.mark.parametrize("header", [b"", b"{", b"[]", b'{"metadata": [], "arrays": {}}', b"\xff"])
def test_a_header_that_is_none_is_refused(tmp_path, header):
    with pytest.raises(ASRError, match="damaged"):
        load_arrays(_with_header(tmp_path / "a.bin", header))


def test_other_files_and_versions_are_refused(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(ASRError, match="not an array file"):
        load_arrays(path)
    with pytest.raises(ASRError, match="version 9"):
        load_arrays(_with_header(path, b"{}", version=9))
    with pytest.raises(ASRError, match="header of"):
        load_arrays(_with_header(path, b"{}", length=(1 << 32) - 1))
    with pytest.raises(ASRError, match="cannot be read"):
        load_arrays(tmp_path / "missing.bin")
    with pytest.raises(ASRError, match="cannot be read"):
        load_arrays(tmp_path)
