"""The cells once more, from the equations of their papers: float64 NumPy, frame by frame.

Weights come as dictionaries under the names of `asr.models.cells`. Every function takes inputs
(T, B, input_size) and gives outputs (T, B, H), from zero states. Nothing is shared with what is
tested: gates are cut out by name, loops are loops.
"""

from __future__ import annotations

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rows(matrix, names):
    """Parts of stacked weights by name: rows("ab") cuts a matrix in two."""
    return dict(zip(names, np.split(matrix, len(names)), strict=True))


def elman(inputs, w, squash):
    """h_t = squash(W x_t + b + U h_{t-1} + d) (Elman 1990)."""
    hidden = np.zeros((inputs.shape[1], w["weight_hh_l0"].shape[1]))
    outputs = []
    for x in inputs:
        past = hidden @ w["weight_hh_l0"].T + w["bias_hh_l0"]
        hidden = squash(x @ w["weight_ih_l0"].T + w["bias_ih_l0"] + past)
        outputs.append(hidden)
    return np.array(outputs)


def rnn_tanh(inputs, w):
    return elman(inputs, w, np.tanh)


def rnn_relu(inputs, w):
    return elman(inputs, w, lambda x: np.maximum(x, 0))


def lstm(inputs, w):
    """Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000."""
    weights, recurrent = rows(w["weight_ih_l0"], "ifgo"), rows(w["weight_hh_l0"], "ifgo")
    biases = rows(w["bias_ih_l0"] + w["bias_hh_l0"], "ifgo")
    hidden = np.zeros((inputs.shape[1], recurrent["i"].shape[1]))
    cell = np.zeros_like(hidden)
    outputs = []
    for x in inputs:
        i, f, g, o = (x @ weights[k].T + hidden @ recurrent[k].T + biases[k] for k in "ifgo")
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        outputs.append(hidden)
    return np.array(outputs)


def peephole_lstm(inputs, w):
    """Graves, Mohamed & Hinton 2013, equations 3 to 7."""
    weights, recurrent = rows(w["weight"], "ifco"), rows(w["recurrent_weight"], "ifco")
    biases, peepholes = rows(w["bias"], "ifco"), dict(zip("ifo", w["peepholes"], strict=True))
    hidden = np.zeros((inputs.shape[1], recurrent["i"].shape[1]))
    cell = np.zeros_like(hidden)
    outputs = []
    for x in inputs:
        sums = {k: x @ weights[k].T + hidden @ recurrent[k].T + biases[k] for k in "ifco"}
        i = sigmoid(sums["i"] + peepholes["i"] * cell)
        f = sigmoid(sums["f"] + peepholes["f"] * cell)
        cell = f * cell + i * np.tanh(sums["c"])
        o = sigmoid(sums["o"] + peepholes["o"] * cell)
        hidden = o * np.tanh(cell)
        outputs.append(hidden)
    return np.array(outputs)


def gru(inputs, w):
    """Cho et al. 2014, the reset gate after the matrix product (the variant of torch and cuDNN)."""
    weights, recurrent = rows(w["weight_ih_l0"], "rzn"), rows(w["weight_hh_l0"], "rzn")
    biases, past_biases = rows(w["bias_ih_l0"], "rzn"), rows(w["bias_hh_l0"], "rzn")
    hidden = np.zeros((inputs.shape[1], recurrent["r"].shape[1]))
    outputs = []
    for x in inputs:
        now = {k: x @ weights[k].T + biases[k] for k in "rzn"}
        past = {k: hidden @ recurrent[k].T + past_biases[k] for k in "rzn"}
        r, z = sigmoid(now["r"] + past["r"]), sigmoid(now["z"] + past["z"])
        hidden = (1 - z) * np.tanh(now["n"] + r * past["n"]) + z * hidden
        outputs.append(hidden)
    return np.array(outputs)


def ligru(inputs, w):
    """Ravanelli et al. 2018, equations 6 to 8, with layer in place of batch normalisation."""

    def normalised(x):
        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)

    weights, recurrent = rows(w["weight"], "zh"), rows(w["recurrent_weight"], "zh")
    gains, biases = dict(zip("zh", w["gain"], strict=True)), rows(w["bias"], "zh")
    hidden = np.zeros((inputs.shape[1], recurrent["z"].shape[1]))
    outputs = []
    for x in inputs:
        now = {k: gains[k] * normalised(x @ weights[k].T) + biases[k] for k in "zh"}
        z = sigmoid(now["z"] + hidden @ recurrent["z"].T)
        candidate = np.maximum(now["h"] + hidden @ recurrent["h"].T, 0)
        hidden = z * hidden + (1 - z) * candidate
        outputs.append(hidden)
    return np.array(outputs)


def indrnn(inputs, w):
    """Li et al. 2018, equation 2."""
    hidden = np.zeros((inputs.shape[1], len(w["recurrent_weight"])))
    outputs = []
    for x in inputs:
        hidden = np.maximum(x @ w["weight"].T + w["recurrent_weight"] * hidden + w["bias"], 0)
        outputs.append(hidden)
    return np.array(outputs)


def sru(inputs, w):
    """Lei et al. 2018, equations 1 to 4."""
    weights, biases = rows(w["weight"], "zfrh"), rows(w["bias"], "zfrh")
    v_f, v_r = w["recurrent_weight"]
    cell = np.zeros((inputs.shape[1], len(v_f)))
    outputs = []
    for x in inputs:
        now = {k: x @ weights[k].T + biases[k] for k in "zfrh"}
        f, r = sigmoid(now["f"] + v_f * cell), sigmoid(now["r"] + v_r * cell)
        cell = f * cell + (1 - f) * now["z"]
        outputs.append(r * cell + (1 - r) * now["h"])
    return np.array(outputs)


def qrnn(inputs, w):
    """Bradbury et al. 2017, equations 2 and 4 (fo-pooling), window 2."""
    weights, biases = rows(w["weight"], "zfo"), rows(w["bias"], "zfo")
    cell = np.zeros((inputs.shape[1], len(biases["z"])))
    last = np.zeros_like(inputs[0])
    outputs = []
    for x in inputs:
        window = np.concatenate([last, x], axis=-1)
        z, f, o = (window @ weights[k].T + biases[k] for k in "zfo")
        cell = sigmoid(f) * cell + (1 - sigmoid(f)) * np.tanh(z)
        outputs.append(sigmoid(o) * cell)
        last = x
    return np.array(outputs)
