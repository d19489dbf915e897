"""A run becomes a bundle that hears what the network hears."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from asr import audio  # noqa: E402
from asr.acoustics import Chunks, OnnxEngine  # noqa: E402
from asr.analysis.plots import learning_curves, save, spikes  # noqa: E402
from asr.cli import main  # noqa: E402
from asr.data.manifest import read_manifest  # noqa: E402
from asr.decode import Decoder, GreedySearch  # noqa: E402
from asr.errors import BundleError, ConfigError, TrainingError  # noqa: E402
from asr.features import Features  # noqa: E402
from asr.lexicon import Lexicon  # noqa: E402
from asr.lm.kneser_ney import train  # noqa: E402
from asr.lm.ngram import NGram  # noqa: E402
from asr.packaging.bundle import LEXICON, LM, Bundle  # noqa: E402
from asr.packaging.package import (  # noqa: E402
    load_bundle,
    load_run,
    package_bundle,
    package_run,
    unspoken_words,
)
from asr.recognizer import Recognizer  # noqa: E402


@pytest.fixture(scope="module")
def run(tones, tmp_path_factory):
    from asr.config import build
    from asr.train.config import TrainingConfig
    from asr.train.setup import make_trainer

    folder = tmp_path_factory.mktemp("packaged") / "run"
    settings = {
        "run": str(folder),
        "data": {"train": [str(tones)], "dev": [str(tones)], "batch_frames": 120},
        "features": {"n_mels": 20},
        "model": {"hidden_size": 24, "layers": 2, "subsampling": [1, 1], "dropout": 0.0},
        "heads": {"characters": {"alphabet": "abcd"}, "copy": {"alphabet": "abcd", "layer": 1}},
        "augment": {"speeds": [1.0], "time_masks": 0, "frequency_masks": 0},
        "optimizer": {"learning_rate": 0.02, "warmup_steps": 5, "weight_decay": 0.0, "clip": 5.0},
        "trainer": {"epochs": 30, "ema": 0.9, "device": "cpu", "log_steps": 1},
    }
    make_trainer(build(TrainingConfig, settings)).fit()
    return folder


def heard(bundle, waveform: np.ndarray) -> np.ndarray:
    features = Features(bundle.config.features)(waveform)
    return OnnxEngine(bundle.model_path).log_probs([features])[0]


def test_the_bundle_equals_the_network_and_reads_its_tones(run, tones, tmp_path):
    bundle = package_run(run, tmp_path / "model", name="tones", precision="fp32")
    model, vocabulary, facts = load_run(run)
    assert bundle.vocabulary == vocabulary
    assert facts["epochs"] == 30
    decoder = Decoder(GreedySearch(vocabulary), bundle.config.frame_shift)
    right = 0
    for utterance in read_manifest(tones):
        waveform = audio.read(utterance.audio_filepath)
        log_probs = heard(bundle, waveform)
        features = torch.from_numpy(Features(bundle.config.features)(waveform))[None]
        with torch.inference_mode():
            expected, _ = model(features, torch.tensor([features.shape[1]]))
        np.testing.assert_allclose(log_probs, expected[0], atol=1e-4)
        hypothesis = decoder.decode(log_probs)[0]
        right += hypothesis.text == utterance.text
    assert right >= 11


def test_another_head_can_transcribe(run, tmp_path):
    bundle = package_run(run, tmp_path / "model", name="low", head="copy")
    assert bundle.config.model["weights"] == "int8"
    with pytest.raises(TrainingError, match="no head 'phones'"):
        package_run(run, tmp_path / "other", name="x", head="phones")


def test_punctuation_comes_along(run, writing_tone_bundle, tmp_path):
    file = writing_tone_bundle.punctuation_path
    bundle = package_run(run, tmp_path / "model", name="writes", punctuation=file)
    assert bundle.punctuation_path.read_bytes() == file.read_bytes()
    with pytest.raises(BundleError, match="no model of punctuation"):
        package_run(run, tmp_path / "other", name="x", punctuation=bundle.model_path)
    assert not (tmp_path / "other").exists()


def test_a_bundle_gives_one_of_another_precision(run, tones, tmp_path):
    waveform = audio.read(read_manifest(tones)[0].audio_filepath)
    source = package_run(run, tmp_path / "int8", name="tones", head="copy", second="characters")
    for precision, most in (("fp16", 0.01), ("fp32", 0.01), ("int8", 0.5)):
        bundle = package_bundle(source, tmp_path / f"to-{precision}", name="n", precision=precision)
        direct = package_run(
            run,
            tmp_path / f"run-{precision}",
            name="n",
            head="copy",
            second="characters",
            precision=precision,
        )
        assert bundle.config.model["weights"] == direct.config.model["weights"] == precision
        assert bundle.second_vocabulary == direct.second_vocabulary
        assert bundle.files.keys() == direct.files.keys()
        features = [Features(bundle.config.features)(waveform)]
        engines = (OnnxEngine(path.model_path) for path in (bundle, direct))
        (got,), (expected,) = (engine.all_log_probs(features) for engine in engines)
        assert len(got) == 2
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=most)


def test_an_older_bundle_tells_its_second_head_by_its_size(run, tmp_path):
    bundle = package_run(run, tmp_path / "model", name="tones", second="copy")
    described = {name: value for name, value in bundle.config.model.items() if name != "second"}
    older = replace(
        bundle, config=replace(bundle.config, model={**described, "weights": "float32"})
    )
    newer = package_bundle(older, tmp_path / "newer", name="tones")
    assert newer.config.model == {**bundle.config.model, "weights": "fp32"}
    heads = {**described["heads"], "third": described["heads"]["copy"]}
    older = replace(bundle, config=replace(bundle.config, model={**described, "heads": heads}))
    with pytest.raises(BundleError, match="does not tell its second head"):
        package_bundle(older, tmp_path / "other", name="tones", model=load_bundle(bundle))


def test_another_language_model_brings_the_lexicon_to_its_words(run, tmp_path, capsys):
    source = package_run(run, tmp_path / "plain", name="tones")
    Lexicon.from_words(["cab", "bad", "dab"], source.vocabulary).save(tmp_path / "lexicon")
    source = source.with_file(LEXICON, (tmp_path / "lexicon").read_bytes())
    (model,) = train([[["cab", "dab"], ["cab", "jazz"]]], 2)
    NGram.compile(model).save(tmp_path / "lm.bin")
    out = tmp_path / "worded"
    with pytest.raises(SystemExit) as stop:
        main(["export", str(source.folder), str(out), "--lm", str(tmp_path / "lm.bin")])
    assert not stop.value.code
    bundle = Bundle.load(out)
    lexicon, words = Lexicon.load(bundle.lexicon_path), NGram.load(bundle.lm_path).words
    assert list(lexicon.words) == list(words)
    assert sorted(word for word, _ in lexicon.entries()) == ["cab", "dab"]
    assert "1 words of the language model have no pronunciation" in capsys.readouterr().err
    assert unspoken_words(bundle) == ["jazz"]
    assert bundle.files.keys() == {*source.files, LM}


def test_the_network_alone_tells_what_it_takes_and_gives(run, tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    sizes = {}
    for precision in ("fp32", "fp16", "int8"):
        file = tmp_path / "new" / f"{precision}.onnx"
        asr(capsys, "export", "--onnx", f"--{precision}", "--second", "copy", run, file)
        told = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
        assert told["precision"] == precision
        assert json.loads(told["features"])["n_mels"] == 20
        assert json.loads(told["symbols"]) == json.loads(told["second_symbols"])
        assert float(told["frame_shift"]) == pytest.approx(0.03)
        assert len(OnnxEngine(file).all_log_probs([np.zeros((5, 60), np.float32)])[0]) == 2
        sizes[precision] = file.stat().st_size
    assert sizes["int8"] < sizes["fp16"] < sizes["fp32"]


def test_what_says_nothing_about_the_output_is_refused(run, tmp_path, capsys):
    _, status = asr(capsys, "export", "--onnx", "--lm", "lm.bin", run, tmp_path / "a.onnx")
    assert status == 2
    asr(capsys, "export", "--fp16", run, tmp_path / "bundle")
    out, _ = asr(capsys, "info", tmp_path / "bundle")
    assert "weights  fp16\n" in out
    _, status = asr(capsys, "export", "--head", "copy", tmp_path / "bundle", tmp_path / "b")
    assert status == 2
    _, status = asr(capsys, "export", "--onnx", tmp_path / "bundle", tmp_path / "folder")
    assert status == 1
    assert {path.name for path in tmp_path.iterdir()} == {"bundle"}


def asr(capsys, *arguments) -> tuple[str, int]:
    """What `asr ARGUMENTS` prints, and its exit status."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return capsys.readouterr().out, int(end.value.code or 0)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="not the folder of a training run"):
        package_run(tmp_path, tmp_path / "model", name="x")


def test_pictures_are_drawn(run, tones, tmp_path):
    figure = learning_curves(run)
    assert all(len(axes.lines[0].get_xdata()) >= 30 for axes in figure.axes)
    save(figure, tmp_path / "curves.png")
    bundle = package_run(run, tmp_path / "model", name="tones", precision="fp32")
    waveform = audio.read(read_manifest(tones)[0].audio_filepath)
    picture = spikes(
        waveform,
        heard(bundle, waveform),
        bundle.vocabulary,
        bundle.config.features,
        bundle.config.frame_shift,
        "tones",
    )
    letters = [text.get_text() for text in picture.axes[1].texts]
    assert "".join(letters).replace("␣", " ").strip()
    save(picture, tmp_path / "spikes.png")
    for name in ("curves.png", "spikes.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert not list(Path(tmp_path).glob(".*"))


def test_a_second_head_helps_to_decide(run, tones, tmp_path):
    settings = {"second_weight": 0.5, "lm_weight": 0.0}
    bundle = package_run(run, tmp_path / "model", name="tones", second="copy", decoder=settings)
    assert bundle.second_vocabulary == bundle.vocabulary
    recognizer = Recognizer(bundle, threads=1)
    utterances = read_manifest(tones)[:5]
    heard = recognizer.recognize([audio.read(u.audio_filepath) for u in utterances])
    assert [h.text for h in heard] == [u.text for u in utterances]
    with pytest.raises(TrainingError, match="no head 'words'"):
        package_run(run, tmp_path / "other", name="tones", second="words")


def test_a_network_in_chunks_is_exported_for_any_latency(make, tmp_path):
    run = str(tmp_path / "run")
    trainer = {"epochs": 1, "right_contexts": [2, None]}
    make(run=run, model={"chunk": 8, "right_context": 2}, trainer=trainer).fit()
    for right_context, chunks in ((3, Chunks(8, 3)), ("all", None), ("trained", Chunks(8, 2))):
        output = tmp_path / str(right_context)
        bundle = package_run(Path(run), output, name="live", right_context=right_context)
        assert OnnxEngine(bundle.model_path).chunks == chunks
    with pytest.raises(ConfigError, match="right_context"):
        package_run(Path(run), tmp_path / "no", name="live", right_context=-1)
