import json
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from asr.errors import ConfigError  # noqa: E402
from asr.train import checkpoint  # noqa: E402
from asr.train.checkpoint import BEST, LAST  # noqa: E402
from asr.train.config import NoiseConfig  # noqa: E402
from asr.train.noise import AdaptiveNoise, WeightNoise, make_noise  # noqa: E402


def test_a_sample_is_heard_and_the_mean_comes_back():
    torch.manual_seed(0)
    layer = torch.nn.Linear(200, 200)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    with WeightNoise(layer, 0.075).drawn():
        differences = (layer.weight.detach() - before["weight"]).flatten()
        layer(torch.ones(1, 200)).square().sum().backward()
        gradient = 2 * (layer.weight.sum(1) + layer.bias).detach()
    assert float(differences.std()) == pytest.approx(0.075, rel=0.02)
    assert abs(float(differences.mean())) < 0.002
    for name, tensor in layer.state_dict().items():
        assert torch.equal(tensor, before[name])
    torch.testing.assert_close(layer.bias.grad, gradient)  # that of the sample


def description_length(weights, log_variances):
    """KL of the posterior to the prior whose mean and variance are best (Graves 2011, eq. 13)."""
    w, v = (
        torch.cat([x.flatten() for x in weights]),
        torch.cat([x.flatten() for x in log_variances]),
    )
    m = w.mean()
    s2 = (v.exp() + (w - m) ** 2).mean()
    return (0.5 * (s2.log() - v) + (v.exp() + (w - m) ** 2) / (2 * s2) - 0.5).sum()


def test_the_cost_is_the_divergence_from_the_best_prior_and_its_gradient():
    torch.manual_seed(1)
    layer = torch.nn.Linear(3, 4).double()
    noise = AdaptiveNoise(layer, 0.1)
    with torch.no_grad():
        for log_variance in noise.log_variances:
            log_variance.add_(torch.randn_like(log_variance))
    parameters = [*layer.parameters(), *noise.log_variances]
    expected = description_length(list(layer.parameters()), list(noise.log_variances))
    gradients = torch.autograd.grad(expected, parameters)
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    assert noise.add_cost(0.25) == pytest.approx(expected.item())
    for parameter, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient / 4)


def test_deviations_follow_the_gradient_of_the_expected_loss():
    """Of 3/2 (w - 1)^2 the expectation is 3/2 ((mu - 1)^2 + sigma^2)."""
    torch.manual_seed(2)
    layer = torch.nn.Linear(1, 50_000, bias=False)
    noise = AdaptiveNoise(layer, 0.5)
    with noise.drawn():
        (1.5 * (layer.weight - 1).square()).sum().backward()
    (log_variances,) = noise.log_variances
    assert float(log_variances.grad.mean()) == pytest.approx(1.5 * 0.25, rel=0.05)
    mean = 3 * (layer.weight.detach().mean() - 1)
    assert float(layer.weight.grad.mean()) == pytest.approx(float(mean), rel=0.05)


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="need noise"):
        NoiseConfig(adaptive=True)
    with pytest.raises(ConfigError, match="sigma is -1"):
        NoiseConfig(sigma=-1)
    assert make_noise(torch.nn.Linear(1, 1), NoiseConfig()) is None


def dev(run) -> list[dict]:
    lines = map(json.loads, Path(run, "log.jsonl").read_text().splitlines())
    return [record for record in lines if record["kind"] == "dev"]


def test_the_second_phase_starts_from_the_least_dev_loss(make, settings):
    trainer = make(
        noise={"sigma": 0.05, "second_phase": True},
        trainer={"epochs": 5, "patience": 1, "ema": 0.0, "average": 1},
    )
    # Epochs 1 to 3 are compared by loss, epochs 4 and 5 by error; the last is of the result.
    results = iter(
        [(0.5, 0.5, 3.0), (0.9, 0.9, 2.0), (0.1, 0.1, 2.5), (0.4, 0.4, 9.0), (0.5,) * 3, (0.4,) * 3]
    )

    def evaluate(alone=False):
        return dict(zip(("wer", "cer", "loss"), next(results), strict=True))

    trainer.task.evaluate = evaluate
    train, noisy, started = trainer._train, [], {}

    def watch():
        noisy.append(trainer.state.phase == 2)
        if trainer.state.epoch == 3:
            started.update({k: v.clone() for k, v in trainer.model.state_dict().items()})
        train()

    trainer._train = watch
    state = trainer.fit()
    assert noisy == [False, False, False, True, True]
    second_epoch, _ = checkpoint.load(Path(settings["run"], "epoch-002.safetensors"))
    for name, tensor in second_epoch.items():
        assert torch.equal(tensor, started[name])
    assert [epoch for _, epoch in state.scores] == [3, 4]
    _, metadata = checkpoint.load(Path(settings["run"], BEST))
    assert metadata["chosen"] == "best epoch"


@pytest.mark.parametrize(
    "noise", [{"sigma": 0.02, "second_phase": True}, {"sigma": 0.02, "adaptive": True}]
)
def test_runs_with_noise_resume_exactly(noise, make, tmp_path):
    # Without patience the second phase begins after the first epoch, and is over after one more.
    patience = 0 if "second_phase" in noise else 9
    groups = {"noise": noise, "trainer": {"patience": patience, "log_steps": 1}}
    make(run=str(tmp_path / "whole"), **groups).fit()
    trainer = make(run=str(tmp_path / "pieces"), **groups)
    evaluate = trainer._evaluate

    def stop():
        evaluate()
        trainer.stop()

    trainer._evaluate = stop
    trainer.fit()
    assert trainer.state.phase == (2 if "second_phase" in noise else 1)
    make(run=str(tmp_path / "pieces"), **groups).fit()
    whole, _ = checkpoint.load(tmp_path / "whole" / LAST)
    pieces, _ = checkpoint.load(tmp_path / "pieces" / LAST)
    assert whole.keys() == pieces.keys()
    assert any(name.startswith("noise.") for name in whole) == ("adaptive" in noise)
    for name in whole:
        assert torch.equal(whole[name], pieces[name]), name
    assert all(math.isfinite(record["loss"]) for record in dev(tmp_path / "whole"))
    logged = (tmp_path / "whole" / "log.jsonl").read_text()
    assert ("description_length" in logged) == ("adaptive" in noise)
