"""More cells for a trained network of LSTM layers, which computes what it did before.

    python benchmarks/widen.py asr/bundled/en --hidden-size 384 --output runs/wide.safetensors
    asr train … trainer.init=runs/wide.safetensors model.hidden_size=384

Net2WiderNet (Chen, Goodfellow & Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer",
ICLR 2016): each further cell is the copy of one that is drawn, and the weights that read the two
are divided between them, in shares that are drawn too, so that the copies learn different things.
With layer normalisation the outputs change a little, since the copies count in mean and deviation.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from asr.packaging.bundle import WEIGHTS, Bundle
from asr.train import checkpoint
from asr.train.checkpoint import BEST, MODEL_FILE


def widen(
    weights: Mapping[str, Tensor], head_layers: Mapping[str, int], hidden_size: int, seed: int = 1
) -> dict[str, Tensor]:
    """The weights of an encoder of (bidirectional) LSTM layers of `hidden_size`, and its heads.

    `head_layers`: the layer below each head, counted from 1.
    """
    generator = torch.Generator().manual_seed(seed)
    copies = {}  # of each layer and direction: the cell that each new cell is a copy of
    for name, weight in weights.items():
        if name.endswith("weight_hh_l0"):
            old = weight.shape[1]
            drawn = torch.randint(old, (hidden_size - old,), generator=generator)
            copies[name.rpartition(".")[0]] = torch.cat([torch.arange(old), drawn])

    def of_layer(number: int) -> Tensor:
        """Which column of the outputs of a layer each new column is a copy of."""
        lstms = [f"encoder.layers.{number}.{d}_lstm" for d in ("forward", "backward")]
        found = [copies[lstm] for lstm in lstms if lstm in copies]
        old = len(found[0].unique())
        return torch.cat([direction * old + own for direction, own in enumerate(found)])

    def divided(weight: Tensor, own: Tensor) -> Tensor:
        """Weights (rows, inputs) of the copies of the inputs."""
        shares = 0.5 + torch.rand(len(weight), len(own), generator=generator)
        sums = torch.zeros_like(weight).index_add_(1, own, shares)
        return weight[:, own] * shares / sums[:, own]

    wide = {}
    for name, weight in weights.items():
        weight = weight.float()
        lstm, _, kind = name.rpartition(".")
        group, which, *rest = name.split(".")  # encoder.norms.0.weight, heads.phones.weight
        number = head_layers[which] - 1 if group == "heads" else int(rest[0])
        if lstm in copies:
            old = len(weight) // 4
            rows = torch.cat([gate * old + copies[lstm] for gate in range(4)])
            weight = weight[rows]
            if kind == "weight_hh_l0":
                weight = divided(weight, copies[lstm])
            elif kind == "weight_ih_l0" and number:
                weight = divided(weight, of_layer(number - 1))
        elif name.startswith("encoder.norms."):
            weight = weight[of_layer(number)]
        elif name.startswith("heads.") and weight.dim() == 2:
            weight = divided(weight, of_layer(number))
        wide[name] = weight
    return wide


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", type=Path, help="a bundle, or the folder of a run")
    parser.add_argument("--hidden-size", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    if (options.network / MODEL_FILE).exists():
        heads = json.loads((options.network / MODEL_FILE).read_text(encoding="utf-8"))["heads"]
        weights = checkpoint.load_weights(options.network / BEST)
    else:
        heads = Bundle.load(options.network).config.model["heads"]
        weights = checkpoint.load_weights(options.network / WEIGHTS)
    layers = {name: head["layer"] for name, head in heads.items()}
    checkpoint.save(options.output, widen(weights, layers, options.hidden_size), {})


if __name__ == "__main__":
    main()
