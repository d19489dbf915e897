"""`asr tune`: find the decoder's settings on recordings with known text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asr.cli import complain
from asr.errors import AudioError, ManifestError

if TYPE_CHECKING:
    from asr.audio import Waveform
    from asr.bundle import Bundle
    from asr.tuning import Decoder, DevSet
    from asr.types import Utterance


@click.command(context_settings={"show_default": True})
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST…")
@click.option("--model", "-m", required=True, metavar="FOLDER", help="Model to tune.")
@click.option(
    "--tolerance",
    default=0.005,
    type=click.FloatRange(0, 1),
    help="Share of errors that a narrower, faster search may have more than a wider one.",
)
@click.option("--dry-run", is_flag=True, help="Print what is found, and leave the model as it is.")
def command(manifests: tuple[str, ...], model: str, tolerance: float, dry_run: bool) -> None:
    """Find language-model weight, word bonus, width of the search and confidences for a model.

    The recordings of all manifests count together. Each is heard as one segment, from where
    speech begins to where it ends. What is found is written into the model's config.json.

    \b
      asr tune -m models/mine dev.jsonl
    """
    from asr.bundle import Bundle
    from asr.config import build, to_dict
    from asr.data.manifest import read_manifest
    from asr.decode.beam import BeamSearchDecoder
    from asr.decode.config import DecoderConfig
    from asr.decode.lexicon import Lexicon
    from asr.decode.rescored import RescoredDecoder
    from asr.decode.second import TwoHeadDecoder
    from asr.lm.ngram import NGram
    from asr.lm.recurrent import RecurrentLM
    from asr.tuning import tune

    bundle = Bundle.load(model)
    bundle.check_ctc("tuning")
    utterances = [u for path in manifests for u in read_manifest(path)]
    if not utterances:
        raise ManifestError(f"{', '.join(manifests)}: no utterance", "give recordings with texts")
    dev = _dev_set(bundle, utterances)
    lm = NGram.load(bundle.lm_path) if bundle.lm_path else None
    lexicon = Lexicon.load(bundle.lexicon_path) if bundle.lexicon_path else None
    if lm is not None and lexicon is None and bundle.vocabulary.kind != "phones":
        lexicon = Lexicon.from_words(lm.words, bundle.vocabulary)  # once, not for each decoder

    second = bundle.second_vocabulary

    rescorer = RecurrentLM(bundle.rescorer_path) if bundle.rescorer_path else None

    def make_decoder(config: DecoderConfig) -> Decoder:
        search = BeamSearchDecoder(bundle.vocabulary, lm=lm, lexicon=lexicon, config=config)
        judged = TwoHeadDecoder(search, second) if second else search
        return RescoredDecoder(judged, rescorer) if rescorer else judged

    config = build(DecoderConfig, bundle.config.decoder, "decoder")
    found = tune(dev, make_decoder, config, click.echo, tolerance)
    click.echo(f"WER {found.error_rate_before:.2%} -> {found.error_rate:.2%}")
    if not dry_run:
        bundle.with_decoder(to_dict(found.config))
        click.echo(f"wrote {Path(model) / 'config.json'}")


def _dev_set(bundle: Bundle, utterances: list[Utterance]) -> DevSet:
    from asr.data.manifest import read_audio
    from asr.engine import OnnxEngine
    from asr.features import Features
    from asr.text.languages import normalizer
    from asr.tuning import DevSet

    normalize = normalizer(bundle.config.language)
    features = Features(bundle.config.features)
    engine = OnnxEngine(bundle.model_path)
    log_probs: list[Any] = []
    texts: list[str] = []
    batch = 32
    for first in range(0, len(utterances), batch):
        rows = []
        for utterance in utterances[first : first + batch]:
            try:
                rows.append(features(_spoken(read_audio(utterance))))
                texts.append(normalize(utterance.text))
            except AudioError as error:  # the others go on
                complain(error)
        heads = engine.all_log_probs(rows)
        log_probs += heads if bundle.second_vocabulary else [first for first, *_ in heads]
    return DevSet(log_probs, texts, bundle.config.frame_shift)


def _spoken(waveform: Waveform) -> Waveform:
    """From the first segment to the last; all of it, where no speech is found."""
    from asr.vad import find_speech

    segments = list(find_speech([waveform]))
    return waveform[segments[0].start : segments[-1].end] if segments else waveform
