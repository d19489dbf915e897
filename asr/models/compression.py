"""Smaller networks out of trained ones: fewer cells, matrices of lower rank, more zeros.

Each gives a network that errs more until it is trained on, which gives most of it back.

Wen et al., "Learning intrinsic sparse structures within long short-term memory", ICLR 2018: cells
go as a whole, with their rows in all gates, their recurrent columns and what reads them.
Xue, Li & Gong, "Restructuring of deep neural network acoustic models with singular value
decomposition", Interspeech 2013: a matrix becomes the product of two thin ones.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from asr.errors import ConfigError
from asr.models.acoustic import AcousticModel
from asr.models.cells import QRNN, weight_matrices
from asr.models.encoder import Encoder, EncoderConfig
from asr.models.heads import CTCHead, Head
from asr.models.layers import Recurrent
from asr.models.transducer import TransducerHead

INPUT_WEIGHTS = {"weight_ih_l0", "weight"}  # what a cell calls the matrix that reads its inputs


def compress(
    model: AcousticModel,
    *,
    cells: int | None = None,
    rank: int | None = None,
    zeros: float = 0.0,
) -> AcousticModel:
    """A smaller network that does nearly what `model` does; `model` stays as it is.

    Args:
        cells: how many stay in each direction of each recurrent layer.
        rank: of the matrices that read the inputs of recurrent layers (`EncoderConfig.rank`).
        zeros: share of each matrix that becomes zero. It costs as much time as before.

    Raises ConfigError for what this network does not have or cannot lose.
    """
    if cells is not None or rank is not None:
        config = _encoder(model).config
        model = _whole(model)
        if cells is not None:
            model = _with_fewer_cells(model, cells)
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


def _with_fewer_cells(model: AcousticModel, cells: int) -> AcousticModel:
    """The network without the cells to which each direction listens least.

    That is the norm of their recurrent columns, or, where each cell hears only itself, of what the
    next layer and the heads read. It changes outputs less than the norm of all weights of a cell.
    """
    encoder = _encoder(model)
    config, before = encoder.config, encoder.config.hidden_size
    if not 1 <= cells <= before:
        raise ConfigError(f"{cells} cells cannot stay of {before}", f"keep 1 to {before}")
    if config.attention_heads or (config.residual and config.projection is None):
        raise ConfigError(
            "attention and residual connections tie the cells of layers: none can go alone",
            "lower the rank, or set weights to zero",
        )
    state = model.state_dict()
    for index, layer in enumerate(encoder.layers):
        assert isinstance(layer, Recurrent)
        readers, width = _readers(model, index), layer.output_size
        read = torch.cat([_read(state[name], width) for name in readers])
        all_kept = []
        for number, (direction, cell) in enumerate(layer.named_children()):
            path = f"encoder.layers.{index}.{direction}."
            own = {name: state[path + name] for name in cell.state_dict()}
            begin = number * before
            recurrent = [
                own[name] for name, _ in weight_matrices(cell) if name not in INPUT_WEIGHTS
            ]
            heard = recurrent[0] if recurrent else read[:, begin : begin + before]
            kept = heard.square().sum(0).topk(cells).indices.sort().values
            for name, value in _rows_of(cell, own, kept, before).items():
                state[path + name] = value
            all_kept.append(kept + begin)
        columns = torch.cat(all_kept)
        for name in readers:
            state[name] = state[name].unflatten(1, (-1, width))[:, :, columns].flatten(1)
        if config.layer_norm and config.projection is None:
            for name in (f"encoder.norms.{index}.weight", f"encoder.norms.{index}.bias"):
                state[name] = state[name][columns]
    return _made(model, replace(config, hidden_size=cells), state)


def _rows_of(
    cell: nn.Module, own: Mapping[str, Tensor], kept: Tensor, size: int
) -> dict[str, Tensor]:
    """Parameters of a layer's direction for the cells `kept` of `size`."""
    matrices = dict(weight_matrices(cell))
    smaller = {}
    for name, value in own.items():
        if name not in matrices:  # each cell has its own
            smaller[name] = value.unflatten(-1, (-1, size))[..., kept].flatten(-2)
            continue
        rows = value.unflatten(0, (-1, size))[:, kept].flatten(0, 1)
        smaller[name] = rows if name in INPUT_WEIGHTS else rows[:, kept]
    return smaller


def _readers(model: AcousticModel, index: int) -> list[str]:
    """The matrices whose columns are the outputs of a layer, perhaps those of several frames."""
    encoder = _encoder(model)
    if encoder.config.projection is not None:
        return [f"encoder.projections.{index}.weight"]
    readers = []
    for layer in list(encoder.layers)[index + 1 : index + 2]:
        for name, _ in weight_matrices(layer):
            if name.rpartition(".")[2] in INPUT_WEIGHTS:
                readers.append(f"encoder.layers.{index + 1}.{name}")
    for name, config in model.head_configs.items():
        if config.layer == index + 1:
            readers.append(f"heads.{name}.{_reader(model.head(name))}")
    return readers


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
