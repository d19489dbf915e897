"""`asr tune`: find the decoder's settings on recordings with known text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asr.cli import warn
from asr.cli._progress import Progress
from asr.errors import AudioError, ManifestError
from asr.program import OUTPUT

if TYPE_CHECKING:
    from asr.analysis.tuning import DevSet
    from asr.audio import Waveform
    from asr.decode.decoder import Outputs
    from asr.packaging.bundle import Bundle
    from asr.types import Utterance


@click.command(context_settings={"show_default": True})
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST…")
@click.option("--model", "-m", required=True, metavar="FOLDER", help="Model to tune.")
@click.option(
    "--tolerance",
    default=0.005,
    type=click.FloatRange(0, 1),
    help="Relative increase in errors allowed for a narrower, faster search.",
)
@click.option(
    "--confidence-only", is_flag=True, help="Leave weights and beam as they are: fit confidences."
)
@click.option("--dry-run", is_flag=True, help="Print the settings without changing the model.")
def command(
    manifests: tuple[str, ...], model: str, tolerance: float, confidence_only: bool, dry_run: bool
) -> None:
    """Tune a model's language-model weight, word bonus, beam and confidences.

    The recordings of all manifests count together. Each is decoded as one segment, from the start
    of speech to its end. The settings are written to the model's config.json.

    \b
      asr tune -m models/mine dev.jsonl
    """
    from asr.analysis.tuning import tune
    from asr.config import to_dict
    from asr.data.manifest import read_manifest
    from asr.decode import make_decoder
    from asr.packaging.bundle import Bundle

    bundle = Bundle.load(model)
    bundle.check_ctc("tuning")
    utterances = [u for path in manifests for u in read_manifest(path)]
    if not utterances:
        raise ManifestError(f"{', '.join(manifests)}: no utterance", "give recordings with texts")
    dev = _dev_set(bundle, utterances)
    decoder = make_decoder(bundle, for_tuning=True)
    found = tune(dev, decoder, click.echo, tolerance, confidence_only)
    click.echo(f"WER {found.error_rate_before:.2%} -> {found.error_rate:.2%}")
    if not dry_run:
        bundle.with_decoder(to_dict(found.config))
        click.echo(f"wrote {Path(model) / 'config.json'}")


def _dev_set(bundle: Bundle, utterances: list[Utterance]) -> DevSet:
    from asr.acoustics import Acoustics
    from asr.analysis.tuning import DevSet
    from asr.data.manifest import read_audio
    from asr.text.languages import normalizer

    normalize = normalizer(bundle.config.language)
    acoustics = Acoustics(bundle)
    log_probs: list[Any] = []
    texts: list[str] = []
    batch = 32
    with Progress(len(utterances)) as progress:
        for first in range(0, len(utterances), batch):
            waveforms = []
            for utterance in utterances[first : first + batch]:
                try:
                    waveforms.append(_spoken(read_audio(utterance)))
                    texts.append(normalize(utterance.text))
                except AudioError as error:  # continue with the others
                    with progress.hidden():
                        warn(error)
                progress.finish(utterance.name, utterance.duration)
            log_probs += acoustics.log_probs(waveforms)
    return DevSet(log_probs, texts, _shown)


def _shown(outputs: Sequence[Outputs]) -> Iterable[Outputs]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(outputs, "decoding", console=console, transient=True, disable=not OUTPUT.progress)


def _spoken(waveform: Waveform) -> Waveform:
    """From the first segment to the last, or all of it if there is no speech."""
    from asr.vad import find_speech

    segments = list(find_speech([waveform]))
    return waveform[segments[0].start : segments[-1].end] if segments else waveform
