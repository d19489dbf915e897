"""What the tests share: real recordings, where they are at hand, and a tiny bundle."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from tone_speech import TONES

from asr.features import FeatureConfig
from asr.lexicon import Lexicon
from asr.packaging.bundle import LEXICON, Bundle, BundleConfig, bundled
from asr.text.vocabulary import Vocabulary

# A deadline measures how busy the machine is, not the code.
settings.register_profile("asr", deadline=None)
settings.load_profile("asr")


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Handlers that a test adds go with it: they write to its captured, closed standard error."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = [handler for handler in root.handlers if handler in handlers]
    root.setLevel(level)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared recordings: $ASR_SHARED, or `shared` beside the checkout."""
    folder = Path(os.environ.get("ASR_SHARED") or Path(__file__).parents[2] / "shared")
    if not (folder / "speech").is_dir():
        pytest.skip(f"no shared recordings in {folder} (set ASR_SHARED)")
    return folder


@pytest.fixture(scope="session")
def store() -> Iterator[str]:
    """The address of a bucket on an S3 server."""
    moto: Any = pytest.importorskip("moto.server")
    s3fs: Any = pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # other processes import as tests do
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("speech")
        yield "s3://speech"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="session")
def tone_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model that needs no training: it spells pure tones, so what it should print is known."""
    return make_tone_bundle(tmp_path_factory.mktemp("bundles") / "tones")


@pytest.fixture(scope="session")
def chunked_tone_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same model, made to hear 8 rows (240 ms) at a time and 4 of what follows."""
    return make_tone_bundle(tmp_path_factory.mktemp("bundles") / "tones", chunk=8, right=4)


@pytest.fixture(scope="session")
def strict_tone_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The model of tones, which knows the words `cab` and `bad` alone, and rejects all else."""
    folder = tmp_path_factory.mktemp("bundles") / "strict"
    bundle = make_tone_bundle(folder)
    Lexicon.from_words(["cab", "bad"], bundle.vocabulary).save(folder / LEXICON)
    bundle = bundle.with_file(LEXICON, (folder / LEXICON).read_bytes())
    return bundle.with_decoder({"closed": True, "rejection_threshold": 2.0})


@pytest.fixture(scope="session")
def writing_tone_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The model of tones, which also writes sentences: a comma behind `cab`, else nothing."""
    pytest.importorskip("torch")
    from tagging import tagger_for

    from asr.packaging.bundle import PUNCTUATION
    from asr.punctuation.export import tagger_to_onnx

    graph = tagger_to_onnx(tagger_for({"cab": ","}), {}).SerializeToString()
    folder = tmp_path_factory.mktemp("bundles") / "writing"
    return make_tone_bundle(folder).with_file(PUNCTUATION, graph)


def make_tone_bundle(folder: Path, chunk: int | None = None, right: int = 0) -> Bundle:
    onnx = pytest.importorskip("onnx")
    features = FeatureConfig.modern()
    vocabulary = Vocabulary.characters([symbol for symbol in TONES if symbol != " "])
    weights = np.zeros((features.size, len(vocabulary)), np.float32)
    for index, band in enumerate(TONES.values(), start=1):
        weights[band :: features.n_mels, index] = 1 / features.stack  # the mean of the band
    own = np.array([chunk or 1 << 31])
    axis, first = np.array([1]), np.array([0])
    constants = {"weights": weights, "gain": np.float32(5), "own": own, "axis": axis, "from": first}
    nodes = [
        ("MatMul", ["features", "weights"], "levels", {}),  # log-energy; 0 for the blank
        ("Mul", ["levels", "gain"], "logits", {}),
        ("LogSoftmax", ["logits"], "all", {"axis": -1}),
        ("Slice", ["all", "from", "own", "axis"], "log_probs", {}),
        ("Min", ["lengths", "own"], "output_lengths", {}),
    ]
    helper, kind = onnx.helper, onnx.TensorProto
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(op, ins, [out], **attributes) for op, ins, out, attributes in nodes],
        "tones",
        [
            value("features", kind.FLOAT, ["batch", "frames", features.size]),
            value("lengths", kind.INT64, ["batch"]),
        ],
        [
            value("log_probs", kind.FLOAT, ["batch", "output_frames", len(vocabulary)]),
            value("output_lengths", kind.INT64, ["batch"]),
        ],
        [onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if chunk is not None:
        helper.set_model_props(model, {"chunk": str(chunk), "right_context": str(right)})
    onnx.checker.check_model(model)
    config = BundleConfig("tones", "en", features, features.frame_shift)
    files = {"model.onnx": model.SerializeToString()}
    return Bundle.create(folder, config, vocabulary, files, "# Tones\n\nA model for tests.\n")


@pytest.fixture(scope="session")
def bundled_model() -> Bundle:
    """The English model that comes with the package."""
    return Bundle.load(bundled())
