"""Beam search decoders beside each other: speed, word errors and memory on real log-probabilities.

    python benchmarks/decoders.py --lm lm.arpa --manifest dev.jsonl [--manifest …] [--peer …]

A head of characters of the bundled model (or of --model) hears the recordings once; every decoder
gets these log-probabilities, the same ARPA model and the same weights. Each runs in an environment
of its own (made on first use under benchmarks/.envs), one utterance after the other, as one process
of one thread pinned to one core. Speed is utterances and frames for a second of processor time,
loading, compiling and a first pass left out, the best of several passes; start is the processor
time of that first pass less a later one. Memory is the peak resident size.

Without a model, tokens below a probability of 1e-3 are left out by those that can.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from environments import HERE, KENLM, PROJECT, Peer, interpreter
from safetensors.torch import load_file

from asr.analysis.metrics import compare, total
from asr.config import build
from asr.data.manifest import read_audio, read_manifest
from asr.features import Features
from asr.lm.files import read_arpa
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.models.encoder import EncoderConfig
from asr.packaging.bundle import Bundle, bundled
from asr.text.english import normalize
from asr.text.vocabulary import Vocabulary
from asr.types import Utterance

PEERS = {
    "ours": Peer(("--editable", str(PROJECT)), "ours_decoder.py"),
    "ctc-beam-decoder": Peer(("ctc-beam-decoder==0.2.0",), "ctc_beam_decoder_peer.py"),
    "flashlight-text": Peer(("numpy", "flashlight-text==0.0.7", KENLM), "flashlight_peer.py"),
    # It asks for an old NumPy that it does not need.
    "pyctcdecode": Peer(
        ("numpy", "pygtrie", KENLM), "pyctcdecode_peer.py", ("pyctcdecode==0.5.0",)
    ),
    "fast-ctc-decode": Peer(("numpy", "fast-ctc-decode==0.3.7"), "fast_ctc_decode_peer.py"),
}
WITHOUT_LM = ("ours", "ctc-beam-decoder", "pyctcdecode", "fast-ctc-decode")
WITH_LM = ("ours", "ctc-beam-decoder", "flashlight-text", "pyctcdecode")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", action="append", required=True)
    parser.add_argument("--lm", type=Path, help="ARPA file; without it, nobody has a model")
    parser.add_argument("--model", help="a bundle other than the bundled one")
    parser.add_argument("--head", default="characters", help="the one that spells characters")
    parser.add_argument("--peer", action="append", choices=list(PEERS))
    parser.add_argument("--beam", action="append", type=int)
    parser.add_argument("--lm-weight", type=float, default=0.8)
    parser.add_argument("--word-bonus", type=float, default=0.0)
    parser.add_argument("--limit", type=int, help="only the first recordings of each manifest")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--core", type=int, default=0)
    options = parser.parse_args()
    bundle = Bundle.load(options.model or bundled())
    network, vocabulary = _network(bundle, options.head)
    words = _words(options.lm, vocabulary) if options.lm else []
    print(f"{'':30}{'frames/s':>10}{'utt./s':>8}{'WER %':>8}{'MB':>7}{'start s':>9}")
    for manifest in options.manifest:
        utterances = read_manifest(manifest)[: options.limit]
        with tempfile.TemporaryDirectory() as name:
            log_probs = Path(name, "log_probs.npz")
            frames = _listen(network, Features(bundle.config.features), utterances, log_probs)
            print(f"{manifest}: {len(utterances)} utterances, {frames} frames")
            settings = {
                "log_probs": str(log_probs),
                "labels": ["", *vocabulary.symbols[1:]],
                "words": words,
                "lm_weight": options.lm_weight,
                "word_bonus": options.word_bonus,
                "passes": options.passes,
            }
            for lm, able in ((None, WITHOUT_LM), (options.lm, WITH_LM)):
                if lm is None and able is WITH_LM:
                    continue
                for beam in options.beam or (50, 100):
                    for peer in options.peer or PEERS:
                        if peer in able:
                            title = f"{peer}, beam {beam}{', LM' if lm else ''}"
                            own = {"lm": lm and str(lm.absolute()), "beam": beam}
                            line = _measure(peer, settings | own, utterances, frames, options.core)
                            print(f"  {title:28}{line}", flush=True)


def _network(bundle: Bundle, head: str) -> tuple[AcousticModel, Vocabulary]:
    """The bundle's weights with another of its heads in front, and what that one spells."""
    described = bundle.config.model["heads"]
    if head not in described or bundle.weights_path is None:
        raise SystemExit(f"{bundle.folder} has no head {head!r}: {', '.join(described)}")
    heads = {head: described[head], **described}
    network = AcousticModel(
        bundle.config.features.size,
        build(EncoderConfig, bundle.config.model["encoder"]),
        {name: HeadConfig(**values) for name, values in heads.items()},
    )
    weights = load_file(bundle.weights_path)
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    vocabulary = bundle.vocabulary
    if vocabulary.kind != "characters":
        alphabet = bundle.config.training["settings"]["heads"][head]["alphabet"]
        vocabulary = Vocabulary.characters(alphabet)
    assert len(vocabulary) == described[head]["classes"]
    return network.eval(), vocabulary


def _words(lm: Path, vocabulary: Vocabulary) -> list[str]:
    alphabet = {*vocabulary.symbols} - {" "}
    return [word for word in read_arpa(lm).words if word and set(word) <= alphabet]


@torch.inference_mode()
def _listen(
    network: AcousticModel, features: Features, utterances: Sequence[Utterance], path: Path
) -> int:
    """Write the log-probabilities of all utterances; return the number of frames."""
    rows = []
    for utterance in utterances:
        heard = torch.from_numpy(features(read_audio(utterance)))
        log_probs, _ = network(heard[None], torch.tensor([len(heard)]))
        rows.append(log_probs[0].numpy())
    np.savez(path, rows=np.concatenate(rows), ends=np.cumsum([len(r) for r in rows]))
    return sum(map(len, rows))


def _measure(
    name: str, settings: dict[str, object], utterances: Sequence[Utterance], frames: int, core: int
) -> str:
    python = interpreter(name, PEERS[name])
    if python is None:
        return "could not be installed"
    process = subprocess.run(
        [python, HERE / "peers" / PEERS[name].script],
        input=json.dumps(settings),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or [""])[-1]
        return f"failed: {reason}"
    result = json.loads(process.stdout.splitlines()[-1])
    words = total(
        compare(normalize(utterance.text), normalize(text)).words
        for utterance, text in zip(utterances, result["texts"], strict=True)
        if normalize(utterance.text)
    )
    seconds = result["seconds"]
    return (
        f"{frames / seconds:10.0f}{len(utterances) / seconds:8.1f}{100 * words.rate:8.1f}"
        f"{result['peak_mb']:7.0f}{result['start']:9.1f}"
    )


if __name__ == "__main__":
    main()
