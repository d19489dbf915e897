"""`asr uncertainty`: does the network know where it errs?"""

from __future__ import annotations

from pathlib import Path

import click

from asr.cli import warn
from asr.cli._progress import Progress
from asr.cli._training import needs_training_extra
from asr.errors import AudioError


@click.command(context_settings={"show_default": True})
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--manifest", required=True, help="JSON lines with audio_filepath and text.")
@click.option("--head", help="Of a run with several.  [default: the first]")
@click.option("--samples", type=click.IntRange(2), default=20, help="Networks to sample.")
@click.option(
    "--sigma", type=float, help="Standard deviation of the weight noise.  [default: the run's]"
)
@click.option("--limit", type=click.IntRange(1), help="Use only the first N utterances.")
@click.option("--seed", default=1)
@needs_training_extra
def command(
    model: Path,
    manifest: str,
    head: str | None,
    samples: int,
    sigma: float | None,
    limit: int | None,
    seed: int,
) -> int:
    """How well the disagreement of sampled networks predicts wrong words.

    MODEL is the folder of a training run, or a bundle. Networks are sampled with the dropout of
    its training (Gal & Ghahramani 2016), with noise on its weights (Graves 2011), or both. A word
    of the mean network is uncertain if few of the samples agree with it; decoding is greedy, and
    TIMIT's phones count as words. The command prints the area under the ROC curve, and that of the
    network's own probabilities.

    \b
      asr uncertainty runs/mine --manifest dev.jsonl --samples 30
    """
    import numpy as np
    import torch

    from asr.analysis import diagnostics
    from asr.analysis.uncertainty import Sampler, ScoredWord, auc, comparable, score_words
    from asr.data.manifest import read_audio, read_manifest
    from asr.decode import Decoder, GreedySearch
    from asr.features import Features

    network = diagnostics.load_network(model, head)
    sampler = Sampler(network, None if (model / "config.json").is_file() else model, sigma)
    spelled = comparable(network.vocabulary)
    features = Features(network.features)
    shift = network.features.frame_shift * network.rate
    decoder = Decoder(GreedySearch(network.vocabulary), shift)
    torch.manual_seed(seed)
    by_samples: list[ScoredWord] = []
    by_probability: list[ScoredWord] = []
    utterances = read_manifest(manifest)[:limit]
    failures = 0
    with Progress(len(utterances)) as progress:
        for utterance in utterances:
            try:
                waveform = read_audio(utterance, network.features.sample_rate)
            except AudioError as error:  # continue with the others
                failures += 1
                with progress.hidden():
                    warn(error)
                continue
            rows = features(waveform)
            (best,) = decoder.decode(network.log_probs(rows))
            words = [word for word in best.words if spelled(word.word)]
            sampled = sampler.log_probs(torch.from_numpy(rows), samples)
            sampled_texts = [spelled(decoder.decode(p)[0].text) for p in sampled]
            text = spelled(" ".join(word.word for word in words))
            scored = score_words(text, sampled_texts, spelled(utterance.text))
            by_samples += scored
            by_probability += [
                ScoredWord(j.word, 1 - w.confidence, j.wrong)
                for j, w in zip(scored, words, strict=True)
            ]
            progress.finish(utterance.audio_filepath, utterance.duration)
    wrong = np.mean([w.wrong for w in by_samples]) if by_samples else float("nan")
    click.echo(
        f"{manifest}: {len(utterances) - failures} utterances, {len(by_samples)} recognised words, "
        f"{wrong:.1%} of them wrong\n"
        f"  area under the ROC curve for word errors: {auc(by_samples):.3f} by {samples} samples, "
        f"{auc(by_probability):.3f} by the network's probabilities"
    )
    return int(failures > 0)
