"""Corpora read, and where need be fetched, by lhotse's recipes (https://github.com/lhotse-speech).

lhotse knows the folder layouts of about a hundred corpora. Here its recordings and supervisions
become clips; all else (cutting, normalising, checking, writing) is ours. lhotse needs torch, so it
is imported only when one of its corpora is prepared.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from asr.errors import MissingDependencyError
from data_prep.corpus import Clip, Corpus, CorpusError, Splits
from data_prep.download import BRING_IT, Archive, DownloadError

MAX_JOBS = 8
_TAGS = re.compile(r"<[^<>\s]*>|\[[^\[\]]*\]")  # <unk>, [NOISE], <COMMA>: not said
WHOLE = 0.05  # seconds by which a supervision may miss the ends of a recording that is one


def corpus(
    name: str,
    title: str,
    licence: str,
    languages: str,
    hours: float | None = None,
    *,
    recipe: str = "",
    parts: tuple[str, ...] | None = (),
    parts_argument: str = "dataset_parts",
    options: Mapping[str, Any] | None = None,
    archives: tuple[Archive, ...] = (),
    gigabytes: float | None = None,
    get: str = "",
    inside: str = "",
    folders: tuple[str, ...] = ("the unpacked corpus",),
    page: str = "",
) -> Corpus:
    """A corpus that `lhotse.recipes.RECIPE` reads (by default the name of the corpus).

    It is fetched from `archives`; by lhotse, if there are none; and if `get` says how, by people.
    `options` go to the function that reads it, as does the choice in `parts_argument`.
    """
    recipe = recipe or name.replace("-", "_")
    fetched_by_lhotse = not (archives or get)
    then = "".join(f" --from-folder {folder!r}" for folder in folders)
    return Corpus(
        name=name,
        title=title,
        licence=licence,
        languages=languages,
        hours=hours,
        gigabytes=gigabytes,
        parts=parts,
        archives=archives,
        fetch=partial(_fetch, recipe, parts_argument) if fetched_by_lhotse else None,
        instructions=f"{get}; then: asr-prepare {name}{then} --to DIR" if get else "",
        read=partial(_read, recipe, parts_argument, options or {}),
        inside=inside,
        folders=folders,
        page=page,
    )


def splits(manifests: Any) -> Splits:
    """The clips of whatever nesting of manifests a recipe returns: by part, by language, by both.

    Raises CorpusError if there is no transcribed recording among them.
    """
    found: Splits = {name: _clips(leaf) for name, leaf in _leaves(manifests, ())}
    if not found:
        raise CorpusError("lhotse's recipe found no transcribed recordings")
    return found


def _read(
    recipe: str,
    parts_argument: str,
    options: Mapping[str, Any],
    folders: Sequence[Path],
    parts: Sequence[str],
) -> Splits:
    prepare = _function(recipe, "prepare")
    accepted = inspect.signature(prepare).parameters
    arguments = dict(options)
    arguments.update(zip((p for p in accepted if p not in options), folders, strict=False))
    if parts and parts_argument in accepted:
        arguments[parts_argument] = list(parts)
    if "num_jobs" in accepted:
        arguments["num_jobs"] = min(MAX_JOBS, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as scratch:
        # Some recipes insist on writing manifests of their own, and read them back lazily.
        if "output_dir" in accepted and accepted["output_dir"].default is inspect.Parameter.empty:
            arguments["output_dir"] = scratch
        try:
            with _our_headers():
                manifests = prepare(**arguments)
            return {name: list(clips) for name, clips in splits(manifests).items()}
        except Exception as error:  # recipes raise whatever they come across, AssertionError first
            raise CorpusError(
                f"{', '.join(map(str, folders))}: lhotse's recipe {recipe} stopped: "
                f"{type(error).__name__}: {error}",
                f"compare with the layout that help(lhotse.recipes.{recipe}) describes",
            ) from error


def _fetch(recipe: str, parts_argument: str, folder: Path, parts: Sequence[str]) -> Path:
    """Download by lhotse; the folder that it says is the corpus."""
    download = _function(recipe, "download")
    accepted = inspect.signature(download).parameters
    chosen = {parts_argument: list(parts)} if parts and parts_argument in accepted else {}
    try:
        result = download(target_dir=folder, **chosen)
    except Exception as error:  # of the network, of the disk, of a missing package
        raise DownloadError(
            f"lhotse could not download {recipe}: {type(error).__name__}: {error}",
            f"run the same command again, or {BRING_IT}",
        ) from error
    return Path(result) if isinstance(result, str | Path) else folder


def _function(recipe: str, verb: str) -> Callable[..., Any]:
    try:
        module = importlib.import_module(f"lhotse.recipes.{recipe}")
    except ImportError as error:
        raise MissingDependencyError(
            f"this corpus is read by lhotse, which cannot be imported ({error})",
            "pip install 'blstm-ctc-asr[data]'",
        ) from error
    return getattr(module, f"{verb}_{recipe}")


@contextmanager
def _our_headers() -> Iterator[None]:
    """Let lhotse read headers as we do, which takes neither ffmpeg nor sph2pipe to be installed."""
    from lhotse.audio import backend

    from asr import audio

    class Headers(backend.LibsndfileBackend):
        def info(self, path_or_fd: Any, force_opus_sampling_rate: int | None = None) -> Any:
            header = audio.probe(path_or_fd)
            duration = header.duration
            if duration is None:
                duration = len(audio.read(path_or_fd)) / audio.SAMPLE_RATE
            return backend.LibsndfileCompatibleAudioInfo(
                channels=header.channels,
                frames=round(duration * header.sample_rate),
                samplerate=header.sample_rate,
                duration=duration,
            )

    with backend.audio_backend(Headers()):
        yield


def _leaves(manifests: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(manifests, tuple) and len(manifests) == 2:
        manifests = dict(zip(("recordings", "supervisions"), manifests, strict=True))
    if not isinstance(manifests, Mapping):
        return
    if manifests.get("recordings") is not None and manifests.get("supervisions") is not None:
        yield "-".join(path).lower() or "train", manifests
        return
    for key, inner in manifests.items():
        yield from _leaves(inner, (*path, str(key)))


def _clips(manifests: Mapping[str, Any]) -> Iterator[Clip]:
    recordings = {recording.id: recording for recording in manifests["recordings"]}
    for supervision in manifests["supervisions"]:
        recording = recordings.get(supervision.recording_id)
        if recording is not None:
            yield _clip(supervision, recording)


def _clip(supervision: Any, recording: Any) -> Clip:
    channel = (
        supervision.channel if isinstance(supervision.channel, int) else supervision.channel[0]
    )
    source = next((s for s in recording.sources if channel in s.channels), recording.sources[0])
    is_whole = supervision.start < WHOLE and abs(supervision.duration - recording.duration) < WHOLE
    extra = {"gender": supervision.gender, "language": supervision.language}
    extra.update(supervision.custom or {})
    phones = (supervision.alignment or {}).get("phone", ())
    return Clip(
        audio=Path(str(source.source)),
        text=_TAGS.sub(" ", supervision.text or ""),
        speaker=supervision.speaker,
        id=supervision.id,
        start=0.0 if is_whole else supervision.start,
        duration=None if is_whole else supervision.duration,
        channel=source.channels.index(channel) if len(source.channels) > 1 else None,
        extra={key: value for key, value in extra.items() if isinstance(value, str | int | float)}
        | ({"phones": [item.symbol for item in phones]} if phones else {}),
    )
