import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("jiwer")

from click.testing import CliRunner  # noqa: E402

from asr.analysis.diagnostics import Network  # noqa: E402
from asr.analysis.uncertainty import Sampler, ScoredWord, auc, comparable, score_words  # noqa: E402
from asr.cli import cli, main  # noqa: E402
from asr.errors import ConfigError  # noqa: E402
from asr.features import FeatureConfig  # noqa: E402
from asr.models.acoustic import AcousticModel, HeadConfig  # noqa: E402
from asr.models.encoder import EncoderConfig  # noqa: E402
from asr.text.phones import TIMIT_61  # noqa: E402
from asr.text.vocabulary import Vocabulary  # noqa: E402


def make(**settings) -> Network:
    torch.manual_seed(0)
    vocabulary = Vocabulary.characters("ab")
    model = AcousticModel(
        4, EncoderConfig(6, 2, **settings), {"only": HeadConfig(len(vocabulary), 2)}
    )
    return Network(model.eval(), vocabulary, FeatureConfig(n_mels=4, stack=1, stride=1))


def test_words_are_judged_by_the_samples_that_have_them():
    judged = score_words("a cat sat", ["a cat", "cat sat down", ""], "the cat sat")
    assert [w.word for w in judged] == ["a", "cat", "sat"]
    assert [w.uncertainty for w in judged] == pytest.approx([2 / 3, 1 / 3, 2 / 3])
    assert [w.wrong for w in judged] == [True, False, False]
    assert score_words("", ["a"], "a") == []
    assert score_words("a", ["a"], "")[0].wrong


def test_the_area_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    words = [ScoredWord("", float(rng.integers(5)), bool(rng.integers(2))) for _ in range(40)]
    wrong = [w.uncertainty for w in words if w.wrong]
    right = [w.uncertainty for w in words if not w.wrong]
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in wrong for b in right]
    assert auc(words) == pytest.approx(np.mean(pairs))
    assert np.isnan(auc([ScoredWord("a", 0.5, True)]))


@pytest.mark.parametrize(
    ("settings", "sigma"), [({"dropout": 0.4}, None), ({"recurrent_dropout": 0.4}, None), ({}, 0.3)]
)
def test_samples_differ_and_the_mean_stays(settings, sigma):
    network = make(**settings)
    features = torch.randn(9, 4)
    before = network.log_probs(features.numpy())
    samples = Sampler(network, sigma=sigma).log_probs(features, 3)
    assert all(s.shape == before.shape for s in samples)
    assert not np.allclose(samples[0], samples[1])
    np.testing.assert_array_equal(network.log_probs(features.numpy()), before)


def test_phones_are_compared_as_39_and_unscored_ones_refused():
    assert comparable(Vocabulary.phones(TIMIT_61))("h# ix q kcl") == "sil ih sil"
    assert comparable(Vocabulary.characters("ab"))("A, b!") == "a b"
    with pytest.raises(ConfigError, match="spells phones"):
        comparable(Vocabulary.phones(["AA", "B"]))


def test_a_network_without_chance_is_refused():
    with pytest.raises(ConfigError, match="neither dropout nor noise"):
        Sampler(make(dropout=0.0))


@pytest.mark.parametrize("noise", [{}, {"sigma": 0.1, "adaptive": True}])
def test_the_command_prints_the_area(noise, make, settings, tones):
    make(noise=noise, trainer={"epochs": 2}).fit()
    result = CliRunner().invoke(
        cli,
        [
            "uncertainty",
            settings["run"],
            "--manifest",
            str(tones),
            "--samples",
            "3",
            "--limit",
            "6",
        ],
    )
    assert result.exit_code == 0, result.output
    assert "area under the ROC curve for word errors" in result.output
    assert "6 utterances" in result.output


def test_a_bad_recording_is_reported_and_the_others_go_on(make, settings, tones, tmp_path, capsys):
    make(trainer={"epochs": 1}).fit()
    first, *others = tones.read_text().splitlines(keepends=True)
    (tmp_path / "m.jsonl").write_text("".join([first.replace(".wav", "-lost.wav"), *others[:2]]))
    with pytest.raises(SystemExit) as end:
        main(["uncertainty", settings["run"], "--manifest", str(tmp_path / "m.jsonl")])
    assert end.value.code == 1
    captured = capsys.readouterr()
    assert "-lost.wav: no such file" in captured.err
    assert "2 utterances" in captured.out
