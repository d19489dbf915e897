"""Weights are taken away as a network trains, and a stopped run goes on as if it had not been."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from asr.errors import ConfigError  # noqa: E402
from asr.models.acoustic import AcousticModel, HeadConfig  # noqa: E402
from asr.models.cells import CELLS, weight_matrices  # noqa: E402
from asr.models.encoder import EncoderConfig  # noqa: E402
from asr.packaging.package import load_run  # noqa: E402
from asr.train import checkpoint  # noqa: E402
from asr.train.checkpoint import BEST, LAST  # noqa: E402
from asr.train.config import PruningConfig  # noqa: E402
from asr.train.pruning import Pruning, make_pruning, sparsity  # noqa: E402


def test_the_share_of_zeros_rises_and_zeros_stay():
    torch.manual_seed(0)
    layer = torch.nn.Linear(40, 25)
    pruning = Pruning(layer, PruningConfig(sparsity=0.6, begin=0.1, end=0.5, every=2))
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.01)
    averages = {name: value.clone() for name, value in layer.state_dict().items()}
    shares, gone = [], torch.zeros(25, 40, dtype=torch.bool)
    for update in range(1, 21):
        with pruning.zeros_kept():
            layer(torch.randn(8, 40)).square().sum().backward()
            optimizer.step()
        pruning.prune(update, 20, averages)
        assert bool((layer.weight[gone] == 0).all())
        gone = layer.weight == 0
        assert bool((averages["weight"][gone] == 0).all())
        shares.append(pruning.zeros())
        assert pruning.is_over() == (update >= 10)
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[1] == pytest.approx(sparsity(2, 20, pruning._config), abs=1e-3)
    assert shares[9] == shares[-1] == 0.6
    assert bool((layer.bias != 0).all())


@pytest.mark.parametrize("cell", CELLS)
def test_matrices_are_those_of_cells_and_linear_layers(cell):
    config = EncoderConfig(hidden_size=4, layers=2, cell=cell, projection=3)
    model = AcousticModel(5, config, {"characters": HeadConfig(6, 2)})
    found = dict(weight_matrices(model))
    state = model.state_dict()
    for name, weight in found.items():
        assert state[name].data_ptr() == weight.data_ptr()
    left = {name.rsplit(".", 1)[1] for name in state.keys() - found.keys() if "norms" not in name}
    assert all("bias" in n or n in ("peepholes", "gain", "recurrent_weight") for n in left)
    assert ("recurrent_weight" in left) == (cell in ("indrnn", "sru"))
    assert {"heads.characters.weight", "encoder.projections.0.weight"} <= found.keys()


@pytest.fixture
def pruned(make, tmp_path):
    """A run of 4 epochs that has three quarters of its zeros when the second is over."""

    def run(name: str, **trainer):
        pruning = {"sparsity": 0.5, "end": 0.6, "every": 3}
        return make(run=str(tmp_path / name), pruning=pruning, trainer=trainer)

    return run


def test_a_finished_run_has_the_zeros_and_only_such_epochs_count(pruned, tmp_path):
    state = pruned("run").fit()
    assert [epoch for _, epoch in state.scores] == [2, 3]
    files = sorted(path.name for path in (tmp_path / "run").glob("epoch-*"))
    assert files == ["epoch-003.safetensors", "epoch-004.safetensors"]
    model, _, _ = load_run(tmp_path / "run")
    for name, weight in weight_matrices(model):
        assert int((weight == 0).sum()) == weight.numel() // 2, name


def test_a_pruned_run_resumes_exactly_while_weights_are_taken_away(pruned, tmp_path):
    pruned("whole").fit()
    trainer = pruned("pieces")
    update = trainer.update

    def interrupt(*arguments):
        if trainer.state.step == 4:
            trainer.stop()
        return update(*arguments)

    trainer.update = interrupt
    trainer.fit()
    assert not trainer.task.pruning.is_over()
    assert 0 < trainer.task.pruning.zeros() < 0.5
    pruned("pieces").fit()
    for name in (LAST, BEST):
        whole, _ = checkpoint.load(tmp_path / "whole" / name)
        pieces, _ = checkpoint.load(tmp_path / "pieces" / name)
        for key in whole:
            assert torch.equal(whole[key], pieces[key]), key


def test_a_run_from_pruned_weights_keeps_their_zeros(pruned, make, tmp_path):
    pruned("first").fit()
    start = Path(tmp_path, "first")
    make(
        run=str(tmp_path / "second"),
        pruning={"sparsity": 0.6},
        trainer={"epochs": 2, "init": str(start)},
    ).fit()
    before, after = load_run(start)[0], load_run(tmp_path / "second")[0]
    for (name, old), (_, new) in zip(weight_matrices(before), weight_matrices(after), strict=True):
        assert bool((new[old == 0] == 0).all()), name


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="sparsity is 1"):
        PruningConfig(sparsity=1.0)
    with pytest.raises(ConfigError, match="a tenth of it is left"):
        PruningConfig(sparsity=0.5, end=0.95)
    assert make_pruning(torch.nn.Linear(1, 1), PruningConfig()) is None
