import pytest

torch = pytest.importorskip("torch")

from asr.errors import TrainingError  # noqa: E402
from asr.train import checkpoint  # noqa: E402


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_optimizer_state_survives(kind, tmp_path):
    def trained(steps):
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
        optimizer = kind(layer.parameters(), lr=0.1, **options)
        run(layer, optimizer, steps)
        return layer, optimizer

    def run(layer, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            layer(torch.ones(1, 3)).pow(2).sum().backward()
            optimizer.step()

    straight, _ = trained(5)
    layer, optimizer = trained(3)
    path = tmp_path / "c.safetensors"
    tensors = {**checkpoint.prefixed("model.", layer.state_dict())}
    checkpoint.save(path, {**tensors, **checkpoint.pack_optimizer(optimizer)}, {"step": 3})
    other, fresh = trained(0)
    loaded, metadata = checkpoint.load(path)
    other.load_state_dict(checkpoint.select(loaded, "model."))
    checkpoint.unpack_optimizer(fresh, loaded)
    run(other, fresh, 2)
    assert metadata == {"step": 3}
    assert torch.equal(other.weight, straight.weight)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"a": torch.ones(2)}, {})

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(TrainingError, match=r"No space left.*from the checkpoint before"):
        checkpoint.save(path, {"a": torch.zeros(2)}, {})
    assert torch.equal(checkpoint.load(path)[0]["a"], torch.ones(2))
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_average_is_the_mean(tmp_path):
    for i in range(3):
        checkpoint.save(tmp_path / str(i), {"a": torch.full((2,), float(i))}, {})
    mean = checkpoint.average([tmp_path / str(i) for i in range(3)])
    assert torch.equal(mean["a"], torch.ones(2))


@pytest.mark.parametrize("content", [b"", b"garbage" * 10, b"\xff" * 64])
def test_damaged_files_are_refused(content, tmp_path):
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(TrainingError, match="not a checkpoint"):
        checkpoint.load(tmp_path / "c")
