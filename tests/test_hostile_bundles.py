"""Bundles with right checksums and wrong contents: an error that names the bundle and a remedy."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr.errors import ASRError, BundleError
from asr.files import load_arrays, save_arrays
from asr.packaging import bundle
from asr.packaging.bundle import Bundle
from asr.recognizer import Recognizer

HUGE = 10**9
CONFIGS: list[dict[str, Any]] = [
    {"frame_shift": float("nan")},
    {"frame_shift": -1},
    *(
        {"features": {name: value}}
        for name, values in {
            "n_mels": (HUGE, -1, 1.5, "x", None),
            "stack": (HUGE, 0),
            "stride": (HUGE,),
            "deltas": (HUGE, -1),
            "hop": (0, -1.0, float("nan"), float("inf"), 1e-9, HUGE),
            "window": (0, float("nan"), HUGE),
            "mean_prior": (float("nan"), -1.0, float("inf")),
            "mean": ([float("nan")] * 80, [1.0], "x", 7),
            "std": ([float("inf")] * 80, [-1.0] * 80),
            "sample_rate": (0, 8000, HUGE),
        }.items()
        for value in values
    ),
    *({"decoder": {"beam": value}} for value in (0, HUGE, 1.5, "x", None)),
    *({"decoder": {"lm_weight": value}} for value in (float("nan"), float("inf"), 1e300)),
    {"decoder": {"word_bonus": float("nan")}},
    {"decoder": {"hotword_boost": float("inf")}},
    {"decoder": {"confidence": [float("nan")]}},
    {"decoder": {"surprise": 1}},
]
VOCABULARIES: list[dict[str, Any]] = [
    *({"blank": value} for value in ("0", -1, HUGE, None, True, 0.5)),
    *({"symbols": value} for value in ([], "x", [1], ["<blank>", ""], ["<blank>", "a", "a"], 7)),
    *({"kind": value} for value in ("x", None, [], 1)),
]


def seal(folder: Path) -> None:
    sums = {p.name: bundle._sha256(p) for p in folder.iterdir() if p.name != bundle.CHECKSUMS}
    (folder / bundle.CHECKSUMS).write_text(json.dumps(sums))


@pytest.fixture
def copy(strict_tone_bundle: Bundle, tmp_path: Path) -> Path:
    shutil.copytree(strict_tone_bundle.folder, tmp_path / "copy")
    return tmp_path / "copy"


def use(folder: Path) -> None:
    recognizer = Recognizer(Bundle.load(folder), threads=1)
    recognizer.recognize([np.zeros(16_000, np.float32)])


def refused(folder: Path) -> None:
    seal(folder)
    with pytest.raises(ASRError):
        use(folder)


def merged(data: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return data | {
        key: data[key] | value if isinstance(value, dict) else value
        for key, value in changes.items()
    }


@pytest.mark.parametrize("changes", CONFIGS, ids=str)
def test_settings_that_cannot_be(copy: Path, changes: dict[str, Any]) -> None:
    data = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(merged(data, changes)))
    refused(copy)


@pytest.mark.parametrize("changes", VOCABULARIES, ids=str)
def test_vocabularies_that_cannot_be(copy: Path, changes: dict[str, Any]) -> None:
    data = json.loads((copy / "vocabulary.json").read_text())
    (copy / "vocabulary.json").write_text(json.dumps(data | changes))
    seal(copy)
    with pytest.raises(BundleError):
        Bundle.load(copy)


@pytest.mark.parametrize("name", ["model.onnx", "lexicon.bin", "vocabulary.json", "config.json"])
@pytest.mark.parametrize("damage", ["empty", "half", "garbage", "zeros"])
def test_contents_that_are_no_such_file(copy: Path, name: str, damage: str) -> None:
    whole = (copy / name).read_bytes()
    wrong = {"empty": b"", "half": whole[: len(whole) // 2], "garbage": b"\xff\x00" * 500}
    (copy / name).write_bytes(wrong.get(damage, bytes(len(whole))))
    seal(copy)
    with pytest.raises(BundleError) as caught:
        Recognizer(Bundle.load(copy), threads=1)
    assert str(copy) in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["first", "label", "word_first", "word", "text", "blocks"])
@pytest.mark.parametrize("damage", ["float", "huge", "negative", "empty", "square", "int64"])
def test_arrays_of_a_lexicon_that_cannot_be(copy: Path, name: str, damage: str) -> None:
    arrays, metadata = load_arrays(copy / "lexicon.bin")
    array = arrays[name]
    arrays[name] = {
        "float": array.astype(np.float32),
        "huge": np.full_like(array, np.iinfo(array.dtype).max),
        "negative": array.astype(np.int32) * 0 - 5,
        "empty": array[:0],
        "square": np.stack([array, array]),
        "int64": array.astype(np.int64),
    }[damage]
    save_arrays(copy / "lexicon.bin", arrays, metadata)
    seal(copy)
    with suppress(BundleError):  # or it is read: what it says may be wrong, never what it does
        use(copy)


@pytest.mark.parametrize("damage", ["double", "classes", "nan", "outside", "chunk"])
def test_networks_that_do_not_do_what_they_promise(copy: Path, damage: str) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(copy / "model.onnx")
    weights = next(t for t in model.graph.initializer if t.name == "weights")
    values = onnx.numpy_helper.to_array(weights)
    if damage == "double":
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    elif damage == "chunk":
        onnx.helper.set_model_props(model, {"chunk": "0", "right_context": "0"})
    elif damage == "outside":
        onnx.external_data_helper.set_external_data(weights, "weights.dat")
        (copy / "weights.dat").write_bytes(values.tobytes())
        weights.ClearField("raw_data")
    else:
        changed = values[:, :-1] if damage == "classes" else np.full_like(values, np.nan)
        weights.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(changed), "weights"))
        if damage == "classes":
            model.graph.output[0].type.tensor_type.shape.dim[2].dim_value -= 1
    (copy / "model.onnx").write_bytes(model.SerializeToString())
    refused(copy)
