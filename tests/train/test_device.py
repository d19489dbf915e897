import pytest

torch = pytest.importorskip("torch")

from asr.data.sampler import BucketSampler  # noqa: E402
from asr.errors import ConfigError, TrainingError  # noqa: E402
from asr.train import device  # noqa: E402
from asr.train.config import TrainerConfig  # noqa: E402


def test_half_precision_needs_a_gpu():
    with pytest.raises(ConfigError, match=r"no fp16 on CPUs.*bf16"):
        device.choose_device(TrainerConfig(device="cpu", precision="fp16"))
    assert device.choose_device(TrainerConfig(device="cpu", precision="bf16")).type == "cpu"


@pytest.mark.parametrize("has", [True, False])
def test_a_cpu_without_bfloat16_trains_in_fp32_and_says_so(make, monkeypatch, has):
    monkeypatch.setattr(device, "_cpu_has_bfloat16", lambda: has)
    settings, cpu = TrainerConfig(device="cpu", precision="bf16"), torch.device("cpu")
    with device.autocast(settings, cpu):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if has else torch.float32)
    assert ("no bfloat16" in make(trainer={"precision": "bf16"})._summary()) == (not has)


def test_bfloat16_works_where_it_is_said_to_be():
    settings, cpu = TrainerConfig(device="cpu", precision="bf16"), torch.device("cpu")
    with device.autocast(settings, cpu):
        torch.nn.LSTM(4, 4, bidirectional=True)(torch.zeros(3, 2, 4))[0].sum().backward()


def test_the_largest_batch_is_tried_and_leaves_no_trace(make, settings):
    trainer = make()
    lengths = trainer.task.sampler._lengths
    utterances, rows = trainer.task.sampler.largest()
    assert max(lengths) <= utterances * rows <= 120
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    said = device.check_memory(trainer.model, trainer.config, (utterances, rows), {})
    assert f"{utterances} x {round(rows / 0.95)} feature rows, fits" in said
    assert all(torch.equal(before[n], t) for n, t in trainer.model.state_dict().items())
    assert all(p.grad is None for p in trainer.model.parameters())


def test_a_process_that_has_no_batch_tries_none(make):
    task = make().task
    task.sampler = BucketSampler([5], 120, rank=1, world_size=2)
    assert task.check_memory() == ""


def test_a_batch_that_does_not_fit_is_told_before_the_first_step(make, monkeypatch):
    trainer = make()

    def full(*_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1 bytes")

    monkeypatch.setattr(device, "training_loss", full)
    with pytest.raises(TrainingError, match=r"does not fit.*lower data\.batch_frames"):
        trainer.fit()
    assert trainer.state.step == 0
