"""Encoders once more, from their papers: float64 NumPy, one utterance at a time.

Every function takes the features (T, input_size) of one utterance, all weights of the encoder by
the names of its `state_dict`, and its settings, and gives its last outputs (T', C). Nothing is
shared with what is tested, and nothing is padded.
"""

from __future__ import annotations

import numpy as np

from tests.models import equations
from tests.models.equations import sigmoid


def under(weights, prefix):
    """The weights whose names start so, without the prefix."""
    return {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}


def linear(x, w):
    return x @ w["weight"].T + w["bias"]


def norm(x, w):
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return centred / scale * w["weight"] + w["bias"]


def silu(x):
    return x * sigmoid(x)


def joined(x, factor):
    rows = -(-len(x) // factor)
    padded = np.zeros((rows * factor, x.shape[1]))
    padded[: len(x)] = x
    return padded.reshape(rows, -1)


def turned(vector, frame):
    """Su et al. 2021, equation 15: pairs of coordinates turned like hands of a clock."""
    half = len(vector) // 2
    result = np.empty_like(vector)
    for i in range(half):
        angle = frame / 10_000 ** (2 * i / len(vector))
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        result[[i, i + half]] = rotation @ vector[[i, i + half]]
    return result


def self_attention(x, w, heads, rotary):
    """Vaswani et al. 2017, equation 1 and section 3.2.2."""
    queries, keys, values = np.split(linear(x, under(w, "project.")), 3, axis=1)
    width = x.shape[1] // heads
    result = np.empty_like(x)
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        for t in range(len(x)):
            q = turned(queries[t, part], t) if rotary else queries[t, part]
            ks = [turned(keys[s, part], s) if rotary else keys[s, part] for s in range(len(x))]
            energies = np.exp([q @ k / np.sqrt(width) for k in ks])
            result[t, part] = energies / energies.sum() @ values[:, part]
    return linear(result, under(w, "output."))


def feed_forward(x, w):
    inner = silu(linear(norm(x, under(w, "0.")), under(w, "1.")))
    return linear(inner, under(w, "4."))


def transformer(features, w, config):
    x = linear(joined(features, config.subsampling), under(w, "project."))
    for i in range(config.layers):
        layer = under(w, f"layers.{i}.")
        seen = norm(x, under(layer, "norm."))
        x = x + self_attention(seen, under(layer, "attention."), config.heads, rotary=True)
        x = x + feed_forward(x, under(layer, "feed_forward."))
    return norm(x, under(w, "norm."))


def convolution_module(x, w):
    """Gulati et al. 2020, figure 2, with layer in place of batch normalisation."""
    value, gate = np.split(linear(norm(x, under(w, "norm.")), under(w, "gated.")), 2, axis=1)
    value = value * sigmoid(gate)
    kernel = w["depthwise.weight"][:, 0]
    reach = kernel.shape[1] // 2
    mixed = np.tile(w["depthwise.bias"], (len(x), 1))
    for t in range(len(x)):
        for offset in range(-reach, reach + 1):
            if 0 <= t + offset < len(x):
                mixed[t] += kernel[:, offset + reach] * value[t + offset]
    return linear(silu(norm(mixed, under(w, "middle_norm."))), under(w, "pointwise."))


def conformer(features, w, config):
    """Gulati et al. 2020, equation 1."""
    x = linear(joined(features, config.subsampling), under(w, "project."))
    for i in range(config.layers):
        layer = under(w, f"layers.{i}.")
        x = x + feed_forward(x, under(layer, "first.")) / 2
        seen = norm(x, under(layer, "attention_norm."))
        x = x + self_attention(seen, under(layer, "attention."), config.heads, rotary=True)
        x = x + convolution_module(x, under(layer, "convolution."))
        x = norm(x + feed_forward(x, under(layer, "second.")) / 2, under(layer, "norm."))
    return x


def both_directions(x, w, cell):
    compute = getattr(equations, cell)
    forward = compute(x[:, None], under(w, f"forward_{cell}."))[:, 0]
    backward = compute(x[::-1][:, None], under(w, f"backward_{cell}."))[::-1, 0]
    return np.concatenate([forward, backward], axis=1)


def reversible(features, w, config):
    """Gomez et al. 2017, equation 2; F and G are recurrent layers as in MacKay et al. 2018."""

    def change(x, i):
        part = under(w, f"changes.{i}.")
        states = both_directions(
            norm(x, under(part, "norm.")), under(part, "recurrent."), config.cell
        )
        return linear(states, under(part, "project."))

    x = linear(joined(features, config.subsampling), under(w, "project."))
    a, b = np.split(x, 2, axis=1)
    for block in range(config.blocks):
        a = a + change(b, 2 * block)
        b = b + change(a, 2 * block + 1)
    return norm(np.concatenate([a, b], axis=1), under(w, "norm."))


def convolution(x, w, stride):
    """Amodei et al. 2016, section 3.5: every output by itself, from the window that it sees."""
    maps = x[None]  # channels, frames, bands
    for number in range(len({name.split(".")[1] for name in w})):
        layer = under(w, f"layers.{number}.")
        kernel = layer["weight"]
        n_frames, n_bands = maps.shape[1:]
        reach = [n // 2 for n in kernel.shape[2:]]
        padded = np.pad(maps, ((0, 0), (reach[0], reach[0]), (reach[1], reach[1])))
        times = range(0, n_frames, stride if number == 0 else 1)
        result = np.empty((len(kernel), len(times), -(-n_bands // 2)))
        for row, t in enumerate(times):
            for column, band in enumerate(range(0, n_bands, 2)):
                window = padded[:, t : t + kernel.shape[2], band : band + kernel.shape[3]]
                result[:, row, column] = [np.sum(window * k) for k in kernel] + layer["bias"]
        maps = np.clip(result, 0, 20)
    return np.concatenate(list(maps), axis=1)


def recurrent(features, w, config):
    """Bidirectional layers with all that may stand before, between and behind them."""
    x = features
    if config.utterance_norm:
        x = (x - x.mean()) / x.std(ddof=1)
    if config.convolutions:
        x = convolution(x, under(w, "convolution."), config.convolution_stride)
    for i in range(config.layers):
        x = joined(x, config.subsampling[i])
        read = x @ w[f"factors.{i}.weight"].T if f"factors.{i}.weight" in w else x
        states = both_directions(read, under(w, f"layers.{i}."), config.cell)
        if config.projection:
            states = linear(states, under(w, f"projections.{i}."))
        states = norm(states, under(w, f"norms.{i}."))
        x = x + states if config.residual and x.shape == states.shape else states
    if config.attention_heads:
        seen = self_attention(x, under(w, "attention."), config.attention_heads, rotary=False)
        x = norm(x + seen, under(w, "attention_norm."))
    return x
