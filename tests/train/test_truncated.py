import pytest

torch = pytest.importorskip("torch")

from asr.data.dataset import Batch  # noqa: E402
from asr.errors import ConfigError  # noqa: E402
from asr.models.acoustic import AcousticModel, HeadConfig  # noqa: E402
from asr.models.cells import CELLS  # noqa: E402
from asr.models.encoder import EncoderConfig  # noqa: E402
from asr.models.encoders import ReversibleConfig, TransformerConfig  # noqa: E402
from asr.train.config import LossConfig  # noqa: E402
from asr.train.losses import training_loss  # noqa: E402
from asr.train.truncated import truncated_backward  # noqa: E402

WEIGHTS = {"high": 1.0, "low": 0.5}


def make(**settings) -> AcousticModel:
    torch.manual_seed(0)
    config = EncoderConfig(6, 2, bidirectional=False, subsampling=(1, 2), **settings)
    return AcousticModel(4, config, {"high": HeadConfig(5, 2), "low": HeadConfig(5, 1)})


def reversible(dropout: float) -> AcousticModel:
    torch.manual_seed(0)
    config = ReversibleConfig(blocks=2, size=4, bidirectional=False, dropout=dropout)
    return AcousticModel(4, config, {"high": HeadConfig(5, 1), "low": HeadConfig(5, 1)})


@pytest.fixture
def batch() -> Batch:
    torch.manual_seed(1)
    targets, n_targets = torch.randint(1, 5, (3, 3)), torch.tensor([3, 2, 1])
    return Batch(
        torch.randn(3, 25, 4),
        torch.tensor([25, 18, 7]),
        dict.fromkeys(WEIGHTS, targets),
        dict.fromkeys(WEIGHTS, n_targets),
        [""] * 3,
    )


def full(model, batch, config=LossConfig()):  # noqa: B008
    torch.manual_seed(2)
    loss, blanks = training_loss(model, batch, WEIGHTS, config)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return loss.detach(), blanks, gradients


def truncated(model, batch, window, config=LossConfig()):  # noqa: B008
    model.zero_grad()
    torch.manual_seed(2)
    loss, blanks = truncated_backward(model, batch, WEIGHTS, config, window)
    return loss, blanks, [p.grad for p in model.parameters()]


def in_chunks() -> AcousticModel:
    torch.manual_seed(0)
    settings = {"dropout": 0.2, "recurrent_dropout": 0.2, "subsampling": (1, 2)}
    config = EncoderConfig(6, 2, chunk=4, right_context=2, **settings)
    return AcousticModel(4, config, {"high": HeadConfig(5, 2), "low": HeadConfig(5, 1)})


@pytest.mark.parametrize("cell", [*CELLS, "reversible", "in chunks"])
def test_a_window_over_everything_is_full_back_propagation(cell, batch):
    others = {"reversible": lambda: reversible(0.0), "in chunks": in_chunks}
    model = others[cell]() if cell in others else make(cell=cell)
    expected = full(model, batch)
    torch.testing.assert_close(truncated(model, batch, 25), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("window", [1, 4, 7])
@pytest.mark.parametrize("kind", ["stacked", "reversible", "in chunks"])
def test_windows_carry_the_state_but_no_gradient(kind, window, batch):
    """The loss is that of the whole; so is the gradient of what lies behind all recurrence."""
    model = {
        "stacked": lambda: make(dropout=0.2, recurrent_dropout=0.2),
        "reversible": lambda: reversible(dropout=0.2),
        "in chunks": in_chunks,
    }[kind]()
    config = LossConfig(entropy=0.1)
    loss, blanks, gradients = truncated(model, batch, window, config)
    whole_loss, whole_blanks, whole = full(model, batch, config)
    torch.testing.assert_close((loss, blanks), (whole_loss, whole_blanks))
    for (name, _), ours, theirs in zip(model.named_parameters(), gradients, whole, strict=True):
        if name.startswith("heads."):  # a reversible network rounds to a grid of 2^-16
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        elif "weight_hh" in name and "backward" not in name:
            assert not torch.allclose(ours, theirs)


def test_encoders_that_look_ahead_are_refused(batch):
    config = TransformerConfig(size=4, layers=1, heads=1, feed_forward=4)
    model = AcousticModel(4, config, {"high": HeadConfig(5, 1)})
    with pytest.raises(ConfigError, match="reads whole utterances"):
        truncated_backward(model, batch, {"high": 1.0}, LossConfig(), 5)


@pytest.mark.parametrize("model", [{"bidirectional": False}, {"chunk": 6, "right_context": 3}])
def test_a_run_can_be_truncated(model, make, settings):
    make(model=model, trainer={"truncate": 7, "epochs": 2}).fit()
    with pytest.raises(ConfigError, match="reads whole utterances"):
        make(run=settings["run"] + "-both", trainer={"truncate": 7})
