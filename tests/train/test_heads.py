"""Runs whose head is a transducer or an attention decoder: to a bundle that transcribes."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from asr import audio  # noqa: E402
from asr.cli.tune import command as tune  # noqa: E402
from asr.data.manifest import read_manifest  # noqa: E402
from asr.errors import BundleError, ConfigError  # noqa: E402
from asr.features import Features  # noqa: E402
from asr.packaging.package import load_run, package_run  # noqa: E402
from asr.recognizer import Recognizer  # noqa: E402

TRANSDUCER = {
    "kind": "transducer",
    "alphabet": "abcd",
    "transducer": {"prediction": {"hidden_size": 8, "embedding": 4}, "size": 8, "most_symbols": 1},
}
ATTENTION = {
    "kind": "attention",
    "alphabet": "abcd",
    "attention": {
        "decoder": {"hidden_size": 8, "embedding": 4, "projection": 8},
        "size": 8,
        "location_filters": 2,
        "location_width": 5,
    },
}
CTC = {"alphabet": "abcd", "weight": 0.3}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("heads", "second"),
    [({"text": TRANSDUCER}, None), ({"text": ATTENTION, "ctc": CTC}, "ctc")],
    ids=["transducer", "attention"],
)
def test_from_training_to_transcribing_without_torch(heads, second, make, settings, tones):
    settings["heads"] = heads
    make(trainer={"epochs": 1, "log_steps": 1}).fit()
    run = Path(settings["run"])
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in log if record["kind"] == "train"]
    assert all(np.isfinite(losses))
    assert not any("blank_ratio" in record for record in log)
    decoder = {"second_weight": 0.3} if second else {}
    bundle = package_run(
        run, run / "model", name="m", precision="fp32", second=second, decoder=decoder
    )
    model, vocabulary, _ = load_run(run)
    greedy, beam = Recognizer(bundle, decoder="greedy"), Recognizer(bundle)
    waveform = audio.read(read_manifest(tones)[0].audio_filepath)
    features = torch.from_numpy(Features(bundle.config.features)(waveform))[None]
    with torch.inference_mode():
        symbols = model.head().decode(*model(features, torch.tensor([features.shape[1]])))
    assert greedy.recognize([waveform])[0].text == vocabulary.decode(symbols[0])
    assert beam.recognize([waveform])[0].score > -np.inf
    with pytest.raises(ConfigError, match="hot words"):
        Recognizer(bundle, hotwords=["ab"])
    with pytest.raises(ConfigError, match="no streams"):
        beam.stream()
    with pytest.raises(BundleError, match="CTC head"):
        tune.callback((str(tones),), str(bundle.folder), 0.005, False, True)
    with pytest.raises(ConfigError, match="knows neither lexicon nor"):
        package_run(run, run / "other", name="m", lm=Path("lm.bin"))


def test_settings_that_contradict_each_other_are_refused(make, settings):
    settings["heads"] = {"text": {**TRANSDUCER, "criterion": "ctc_crf"}}
    with pytest.raises(ConfigError, match="knows no criterion"):
        make()
    settings["heads"] = {"text": TRANSDUCER}
    with pytest.raises(ConfigError, match="CTC heads only"):
        make(trainer={"truncate": 20}, model={"bidirectional": False}).fit()
