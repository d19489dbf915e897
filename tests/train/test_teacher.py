"""Learning from another network."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from asr.data.codes import UNKNOWN, write_codes  # noqa: E402
from asr.data.manifest import read_manifest  # noqa: E402
from asr.errors import ConfigError  # noqa: E402
from asr.train import checkpoint  # noqa: E402
from asr.train.teacher import CodePrediction  # noqa: E402


@pytest.fixture
def codes(tones: Path, tmp_path: Path) -> str:
    """The codes of all tones but the first: the letter of each frame of 20 ms, and its opposite."""
    names, parts = [], []
    for utterance in read_manifest(tones)[1:]:
        frames = np.repeat([ord(letter) for letter in utterance.text], 6)
        names.append(f"{utterance.audio_filepath}@0")
        parts.append(np.stack([frames, 255 - frames], axis=1).astype(np.uint8))
    path = tmp_path / "codes.safetensors"
    counts = np.array([len(part) for part in parts])
    write_codes(path, names, np.concatenate(parts), counts, frame_shift=0.02, first_center=0.01)
    return str(path)


def test_the_loss_is_the_mean_over_codebooks_of_the_cross_entropies():
    torch.manual_seed(0)
    teacher = CodePrediction(input_size=4, codebooks=2, layer=1, weight=0.5)
    hidden = torch.randn(3, 2, 4)  # frames, batch, columns
    codes = torch.tensor([[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 10], [UNKNOWN, UNKNOWN]]])
    loss = teacher([(hidden, torch.tensor([2, 3]))], codes)
    log_probs = teacher.output(hidden).unflatten(2, (2, 256)).log_softmax(-1)
    known = [(0, 0), (0, 1), (1, 0), (1, 1)]  # without padding, and without unknown codes
    wanted = -sum(log_probs[t, b, k, codes[b, t, k]] for b, t in known for k in range(2))
    torch.testing.assert_close(loss, 0.5 * wanted / 2)


def test_a_network_of_half_the_rate_predicts_every_second_code():
    teacher = CodePrediction(input_size=4, codebooks=1, layer=2, weight=1.0)
    hidden, lengths = torch.randn(2, 1, 4), torch.tensor([2])
    thinned = teacher([(hidden, lengths)] * 2, torch.tensor([[[1], [2], [3]]]))
    torch.testing.assert_close(
        thinned, teacher([(hidden, lengths)] * 2, torch.tensor([[[1], [3]]]))
    )


def test_a_run_learns_the_codes(make, codes, tmp_path):
    trainer = make(teacher={"codes": [codes], "layer": 1, "weight": 0.3}, trainer={"epochs": 8})
    before = [p.clone() for p in trainer.task.teacher.parameters()]
    trainer.fit()
    after = list(trainer.task.teacher.parameters())
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    batch = next(iter(trainer.task.train_loader))
    layers = list(trainer.model.encoder.layer_outputs(batch.features, batch.lengths))
    n_frames = int((batch.codes[..., 0] != UNKNOWN).sum())
    loss = float(trainer.task.teacher(layers, batch.codes).detach())
    assert loss / 0.3 / n_frames < 2  # ln 256 = 5.5
    assert not any(
        "teacher" in name for name in checkpoint.load(tmp_path / "run/best.safetensors")[0]
    )


def test_two_and_two_epochs_are_four(make, codes, tmp_path):
    teacher = {"codes": [codes]}
    make(run=str(tmp_path / "four"), teacher=teacher).fit()
    make(run=str(tmp_path / "two"), teacher=teacher).fit(stop=lambda state: state.epoch == 2)
    make(run=str(tmp_path / "two"), teacher=teacher).fit()
    four, two = (checkpoint.load(tmp_path / n / "last.safetensors")[0] for n in ("four", "two"))
    assert any(name.startswith("teacher.") for name in four)
    assert four.keys() == two.keys()
    for name, tensor in four.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=0)


def test_codes_of_other_recordings_are_refused(make, tmp_path):
    path = tmp_path / "other.safetensors"
    codes, counts = np.zeros((1, 2), np.uint8), np.array([1])
    write_codes(path, ["/other.wav@0"], codes, counts, frame_shift=0.02, first_center=0.01)
    with pytest.raises(ConfigError, match="no recording of the training set"):
        make(teacher={"codes": [str(path)]})


def test_a_layer_that_is_not_there(make, codes):
    with pytest.raises(ConfigError, match="layer is 2"):
        make(teacher={"codes": [codes], "layer": 2})
