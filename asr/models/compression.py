"""Smaller networks out of trained ones: fewer cells, matrices of lower rank, more zeros.

Each gives a network that errs more, until it is trained on.

Wen et al., "Learning intrinsic sparse structures within long short-term memory", ICLR 2018: cells
go as a whole, with their rows in all gates, their recurrent columns and what reads them. On
recordings, those go that follow linearly from the others, whose weights then take in theirs. (The
size of the weights is no criterion: cells drawn at random do as little harm.)
Xue, Li & Gong, "Restructuring of deep neural network acoustic models with singular value
decomposition", Interspeech 2013: a matrix becomes the product of two thin ones.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.errors import ConfigError
from asr.models.acoustic import AcousticModel
from asr.models.cells import QRNN, weight_matrices
from asr.models.encoder import Encoder, EncoderConfig
from asr.models.heads import CTCHead, Head
from asr.models.layers import Recurrent
from asr.models.transducer import TransducerHead

INPUT_WEIGHTS = {"weight_ih_l0", "weight"}  # what a cell calls the matrix that reads its inputs
RIDGE = 1e-5  # of the regression, over the mean variance


def compress(
    model: AcousticModel,
    *,
    cells: int | None = None,
    rank: int | None = None,
    zeros: float = 0.0,
    recordings: Sequence[Tensor] = (),
) -> AcousticModel:
    """A smaller network that does nearly what `model` does; `model` stays as it is.

    Args:
        cells: how many stay in each direction of each recurrent layer.
        rank: of the matrices that read the inputs of recurrent layers (`EncoderConfig.rank`).
        zeros: share of each matrix that becomes zero. It costs as much time as before.
        recordings: features (rows, size) of recordings, for `cells`; a few thousand rows suffice.

    Raises ConfigError for what this network does not have or cannot lose.
    """
    if cells is not None or rank is not None:
        config = _encoder(model).config
        model = _whole(model)
        if cells is not None:
            model = _with_fewer_cells(model, cells, recordings)
        if rank := rank or config.rank:
            model = _factorised(model, rank)
    else:
        model = copy.deepcopy(model)
    for _, weight in weight_matrices(model):
        zero_smallest(weight, zeros)
    return model


@torch.no_grad()
def zero_smallest(weight: Tensor, share: float) -> None:
    """Make the `share` of the entries that are smallest in magnitude zero, in place.

    >>> weight = torch.tensor([[0.1, -0.5], [0.3, -0.2]])
    >>> zero_smallest(weight, 0.5)
    >>> weight.tolist()
    [[0.0, -0.5], [0.30000001192092896, 0.0]]
    """
    count = int(share * weight.numel())
    if count:
        sizes = weight.abs()
        weight.masked_fill_(sizes <= sizes.flatten().kthvalue(count).values, 0)


def _with_fewer_cells(
    model: AcousticModel, cells: int, recordings: Sequence[Tensor]
) -> AcousticModel:
    """The network without the cells that follow best from the others, which take their part."""
    encoder = _encoder(model)
    config, before = encoder.config, encoder.config.hidden_size
    _check(config, cells, recordings)
    if cells == before:
        return model
    state = model.state_dict()
    for index, (layer, rows) in enumerate(
        zip(encoder.layers, _outputs(model, recordings), strict=True)
    ):
        assert isinstance(layer, Recurrent)
        all_kept = []
        for number, (direction, cell) in enumerate(layer.named_children()):
            path, begin = f"encoder.layers.{index}.{direction}.", number * before
            own = {name: state[path + name] for name in cell.state_dict()}
            smaller, kept = _smaller(cell, own, rows[:, begin : begin + before], cells)
            state |= {path + name: value for name, value in smaller.items()}
            all_kept.append(kept + begin)
        columns = torch.cat(all_kept)
        norm, read, left = encoder.norms[index], rows, rows[:, columns]
        if isinstance(norm, nn.LayerNorm) and config.projection is None:
            names = [f"encoder.norms.{index}.{name}" for name in ("weight", "bias")]
            weight, bias = (state[name].double() for name in names)
            read = functional.layer_norm(rows, rows.shape[1:], weight, bias)
            weight, bias = weight[columns], bias[columns]
            left = functional.layer_norm(left, left.shape[1:], weight, bias)
            state |= dict(zip(names, (weight.float(), bias.float()), strict=True))
        product, constant = _regression(left, read)
        for name, bias_name in _readers(model, index):
            frames = state[name].unflatten(1, (-1, len(constant)))
            state[name] = (frames @ product.T).flatten(1)
            state[bias_name] = state[bias_name] + (frames @ constant).sum(1)
    return _made(model, replace(config, hidden_size=cells), state)


def _check(config: EncoderConfig, cells: int, recordings: Sequence[Tensor]) -> None:
    before = config.hidden_size
    if not 1 <= cells <= before:
        raise ConfigError(f"{cells} cells cannot stay of {before}", f"keep 1 to {before}")
    tied = config.attention_heads or (config.residual and config.projection is None)
    if tied or config.cell == "ligru":
        raise ConfigError(
            "attention, residual connections and the norm of a LiGRU tie cells: none can go alone",
            "lower the rank, or set weights to zero",
        )
    if not recordings:
        raise ConfigError(
            "which cells can go is learnt from recordings, and there are none",
            "--listen FILE, a manifest, with or without transcripts",
        )


@torch.inference_mode()
def _outputs(model: AcousticModel, recordings: Sequence[Tensor]) -> list[Tensor]:
    """What each recurrent layer gives over all rows of features: (frames, columns), float64."""
    encoder = _encoder(model)
    outputs: list[list[Tensor]] = [[] for _ in encoder.layers]
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, output, to=to: to.append(output[:, 0]))
        for layer, to in zip(encoder.layers, outputs, strict=True)
    ]
    was_training = model.training
    try:
        with encoder.looking_ahead(None):
            for rows in recordings:
                encoder.eval()(rows[None], torch.tensor([len(rows)]))
    finally:
        encoder.train(was_training)
        for hook in hooks:
            hook.remove()
    return [torch.cat(of_layer).double() for of_layer in outputs]


def _smaller(
    cell: nn.Module, own: Mapping[str, Tensor], rows: Tensor, cells: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Parameters of a layer's direction for some of its cells, and which these are.

    rows: (frames, size), what it gave. Recurrent weights of the others move to those that stay.
    """
    size = rows.shape[1]
    matrices = dict(weight_matrices(cell))
    recurrent = next((name for name in matrices if name not in INPUT_WEIGHTS), None)
    listened = own[recurrent].norm(dim=0).double() if recurrent else rows.new_ones(size)
    kept = _most_telling((rows * listened).T.cov(), cells)
    smaller = {}
    for name, value in own.items():
        if name in matrices:
            smaller[name] = value.unflatten(0, (-1, size))[:, kept].flatten(0, 1)
        else:  # each cell has its own
            smaller[name] = value.unflatten(-1, (-1, size))[..., kept].flatten(-2)
    if recurrent:
        product, constant = _regression(rows[:, kept], rows)
        bias = "bias_hh_l0" if isinstance(cell, nn.RNNBase) else "bias"
        smaller[bias] = smaller[bias] + smaller[recurrent] @ constant
        smaller[recurrent] = smaller[recurrent] @ product.T
    return smaller, kept


def _most_telling(covariance: Tensor, count: int) -> Tensor:
    """The indices from which, one after the other, most of all the others follows linearly."""
    left, kept = covariance.clone(), list[int]()
    floor = 1e-12 * float(covariance.diagonal().max()) + 1e-30
    for _ in range(count):
        variance = left.diagonal().clamp(min=floor)
        explained = left.square().sum(0) / variance
        explained[kept] = -1
        best = int(explained.argmax())
        kept.append(best)
        left = left - torch.outer(left[:, best], left[best]) / variance[best]
    return torch.tensor(sorted(kept))


def _regression(known: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """(n, a), (n, b) -> (a, b), (b,) with `wanted` nearly `known @ product + constant`."""
    means = known.mean(0), wanted.mean(0)
    known, wanted = known - means[0], wanted - means[1]
    squares = known.T @ known
    ridge = RIDGE * squares.diagonal().mean() + 1e-12
    squares.diagonal().add_(ridge)
    product = torch.linalg.solve(squares, known.T @ wanted)
    return product.float(), (means[1] - means[0] @ product).float()


def _readers(model: AcousticModel, index: int) -> list[tuple[str, str]]:
    """The matrices that read a layer's outputs, perhaps those of several frames, and the biases
    that are added to what they give."""
    encoder = _encoder(model)
    if encoder.config.projection is not None:
        readers = [f"encoder.projections.{index}.weight"]
    else:
        readers = [
            f"heads.{name}.{_reader(model.head(name))}"
            for name, config in model.head_configs.items()
            if config.layer == index + 1
        ]
        for layer in list(encoder.layers)[index + 1 : index + 2]:
            readers += [
                f"encoder.layers.{index + 1}.{name}"
                for name, _ in weight_matrices(layer)
                if name.rpartition(".")[2] in INPUT_WEIGHTS
            ]
    parts = [name.rpartition(".") for name in readers]
    return [
        (f"{path}.{name}", f"{path}.{name.replace('weight', 'bias')}") for path, _, name in parts
    ]


def _reader(head: Head) -> str:
    if isinstance(head, CTCHead):
        return "weight"
    if isinstance(head, TransducerHead):
        return "linear.weight" if isinstance(head.linear, nn.Linear) else "from_encoder.weight"
    raise ConfigError(
        "an attention decoder reads the cells in several places: none can go alone",
        "lower the rank, or set weights to zero",
    )


def _factorised(model: AcousticModel, rank: int) -> AcousticModel:
    """The network with the nearest input matrices of that rank, which may not have any yet.

    By singular value decomposition of the matrices of both directions, one below the other.
    """
    encoder, state = _encoder(model), model.state_dict()
    for index, cells in enumerate(_input_weights(encoder)):
        before = state[cells[0][0]].shape[1] // cells[0][1]
        stacked = torch.cat([_read(state[name], before) for name, _ in cells])
        if rank >= before:
            continue
        u, s, vh = torch.linalg.svd(stacked.double(), full_matrices=False)
        root = s[:rank].sqrt()
        state[f"encoder.factors.{index}.weight"] = (root[:, None] * vh[:rank]).float()
        firsts = (u[:, :rank] * root).float().chunk(len(cells))
        for (name, window), first in zip(cells, firsts, strict=True):
            state[name] = first.unflatten(0, (-1, window)).flatten(1)
    return _made(model, replace(encoder.config, rank=rank), state)


def _whole(model: AcousticModel) -> AcousticModel:
    """The same network with its input matrices multiplied out."""
    encoder, state = _encoder(model), model.state_dict()
    for index, cells in enumerate(_input_weights(encoder)):
        second = state.pop(f"encoder.factors.{index}.weight", None)
        if second is None:
            continue
        for name, window in cells:
            product = _read(state[name], len(second)) @ second
            state[name] = product.unflatten(0, (-1, window)).flatten(1)
    return _made(model, replace(encoder.config, rank=None), state)


def _input_weights(encoder: Encoder) -> Iterator[list[tuple[str, int]]]:
    """For each layer, what reads its inputs: names of matrices, and how many frames each reads."""
    for index, layer in enumerate(encoder.layers):
        yield [
            (f"encoder.layers.{index}.{direction}.{name}", 2 if isinstance(cell, QRNN) else 1)
            for direction, cell in layer.named_children()
            for name, _ in weight_matrices(cell)
            if name in INPUT_WEIGHTS
        ]


def _read(weight: Tensor, width: int) -> Tensor:
    """(rows, frames * width) -> (rows * frames, width)."""
    return weight.unflatten(1, (-1, width)).flatten(0, 1)


def _made(model: AcousticModel, config: EncoderConfig, state: dict[str, Tensor]) -> AcousticModel:
    made = AcousticModel(model.input_size, config, model.head_configs)
    made.load_state_dict(state)
    return made.train(model.training)


def _encoder(model: AcousticModel) -> Encoder:
    if not isinstance(model.encoder, Encoder):
        raise ConfigError(
            "this encoder is not a stack of recurrent layers: it has no cells and ranks to lower",
            "set weights to zero",
        )
    return model.encoder
