"""Training from shards: tar files on a disk or in an object store, and an index of what is in them.

`asr-prepare shard` writes them. The index tells each utterance's length, text and place, so batches
are planned before anything is read: a plan is a function of (seed, epoch), every utterance is in it
once, and training can resume at any step. Shards are read some at a time, in a shuffled order;
those with an address (s3://, gs://, http://, memory://, whatever fsspec opens) are fetched whole,
in the background, into a folder of bounded size.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np

from asr.data.sampler import BucketSampler
from asr.errors import AudioError, ManifestError
from asr.files import locked, replacing
from asr.types import Utterance

INDEX = ".index.json"
FORMAT, VERSION = "asr-shards", 2
_ATTEMPTS = 3
_FIRST_WAIT = 0.5  # seconds before the second attempt, doubled before the third
_RETRY_SECONDS = 60.0  # seconds until a shard that could not be fetched is tried again
_BLOCK = 1 << 20
_MANIFEST_BLOCK = 1000  # utterances of a plain manifest that take the place of a shard


def is_index(path: str) -> bool:
    return path.endswith(INDEX)


def read_index(index: str) -> list[Utterance]:
    """The utterances of all shards that an index names; it may be a path or an address.

    The place of a recording is in `shard`, `offset`, `bytes` and `sha256` (of the shard) in
    `extra`. Raises ManifestError for what is not an index of ours, or cannot be read.
    """
    facts = _facts(index, _text(index))
    utterances = []
    for shard in facts["shards"]:
        place = {"shard": _beside(index, shard["path"]), "sha256": shard["sha256"]}
        lines = _text(_beside(index, shard["lines"])).splitlines()
        if len(lines) != shard["utterances"]:
            raise ManifestError(
                f"{index}: {shard['lines']} has {len(lines)} lines, not {shard['utterances']}",
                "copy the shards again",
            )
        utterances += [_utterance(json.loads(line), place) for line in lines]
    return utterances


def index_files(index: str) -> list[str]:
    """The texts of an index and of the lists that it names. Raises as `read_index`."""
    text = _text(index)
    shards = _facts(index, text)["shards"]
    return [text, *(_text(_beside(index, shard["lines"])) for shard in shards)]


def shard_numbers(utterances: Sequence[Utterance]) -> list[int] | None:
    """The number of each utterance's shard; None if no utterance is in one.

    Utterances of plain manifests among them are numbered in blocks, as if they were in shards.
    """
    if not any("shard" in u.extra for u in utterances):
        return None
    numbers: dict[Any, int] = {}
    keys = (u.extra.get("shard", i // _MANIFEST_BLOCK) for i, u in enumerate(utterances))
    return [numbers.setdefault(key, len(numbers)) for key in keys]


class ShardSampler(BucketSampler):
    """Batches from `window` shards at a time: what stands in for shuffling all utterances.

    Shards are dealt to the processes in an order that is new in every epoch; each process cuts the
    utterances of its next `window` shards into batches of similar length and shuffles those. A
    process that has fewer batches than another gets empty ones at the end of the epoch.

    `fetch` is called with the numbers of the shards that will be needed soon.

    >>> sampler = ShardSampler([3, 9, 4, 8], 20, shards=[0, 0, 1, 1], window=1, shuffle=False)
    >>> list(sampler)
    [[(0, 0), (0, 1)], [(0, 2), (0, 3)]]
    """

    def __init__(
        self,
        lengths: Sequence[int],
        max_frames: int,
        *,
        shards: Sequence[int],
        window: int,
        fetch: Callable[[list[int]], None] = lambda shards: None,
        **options: Any,
    ):
        super().__init__(lengths, max_frames, **options)
        order = np.argsort(np.asarray(shards), kind="stable")
        ends = np.cumsum(np.bincount(np.asarray(shards)))
        self._members = np.split(order, ends[:-1])  # utterances of each shard
        self._window, self._fetch = window, fetch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        windows = self._windows(np.random.default_rng([self._seed, self.epoch]), self._rank)
        first, starts = 0, {}
        for number, (_, batches) in enumerate(windows):
            starts[max(first, self.start)] = number
            first += len(batches)
        for step, batch in enumerate(super().__iter__(), start=self.start):
            if step in starts:
                soon = windows[starts[step] : starts[step] + 2]
                self._fetch([shard for shards, _ in soon for shard in shards])
            yield batch

    def _plan(self) -> list[list[np.ndarray]]:
        lanes = []
        for rank in range(self._world_size):
            windows = self._windows(np.random.default_rng([self._seed, self.epoch]), rank)
            lanes.append([batch for _, batches in windows for batch in batches])
        longest = max(map(len, lanes))
        nothing = np.zeros(0, np.int64)
        for lane in lanes:
            lane += [nothing] * (longest - len(lane))
        return [list(step) for step in zip(*lanes, strict=True)]

    def _windows(
        self, rng: np.random.Generator, rank: int
    ) -> list[tuple[list[int], list[np.ndarray]]]:
        """What one process reads in this epoch: some shards, and the batches made of them."""
        n_shards = len(self._members)
        order = rng.permutation(n_shards) if self._shuffle else np.arange(n_shards)
        own = order[rank :: self._world_size]
        own_rng = np.random.default_rng([self._seed, self.epoch, rank])
        windows = []
        for first in range(0, len(own), self._window):
            shards = own[first : first + self._window].tolist()
            inside = np.concatenate([self._members[shard] for shard in shards])
            batches = self._cut(self._by_length(inside, own_rng))
            if self._shuffle and not (self._sorted_first_epoch and self.epoch == 0):
                batches = [batches[i] for i in own_rng.permutation(len(batches))]
            windows.append((shards, batches))
        return windows


class ShardReader:
    """Recordings out of shards. What has an address is fetched into `folder`, which holds the
    `keep` shards that were used last."""

    def __init__(self, folder: Path, keep: int):
        self._folder, self._keep = folder, keep
        self._failed: dict[str, tuple[float, str]] = {}

    def open(self, utterance: Utterance) -> io.BytesIO:
        """The bytes of a recording, as a file that has its name. Raises AudioError."""
        shard, name = utterance.extra["shard"], utterance.audio_filepath
        try:
            try:
                content = self._read(utterance)
            except FileNotFoundError:  # dropped by another process since it was fetched
                content = self._read(utterance)
        except OSError as error:
            raise AudioError(f"{name}: cannot be read: {error.strerror or error}") from error
        if len(content) != utterance.extra["bytes"]:
            raise AudioError(f"{name}: {shard} ends before it", "copy the shard again")
        recording = io.BytesIO(content)
        recording.name = name
        return recording

    def fetch(self, utterances: Iterable[Utterance]) -> None:
        """Begin to fetch the shards of `utterances`, in their order, without waiting for them."""
        shards = {u.extra["shard"]: u for u in utterances if _is_address(u.extra.get("shard", ""))}

        def work() -> None:
            for utterance in shards.values():
                try:
                    self._local(utterance)
                except AudioError:
                    continue  # told when the first recording of it is read

        if shards:
            threading.Thread(target=work, daemon=True).start()

    def _read(self, utterance: Utterance) -> bytes:
        with self._local(utterance).open("rb") as file:
            file.seek(utterance.extra["offset"])
            return file.read(utterance.extra["bytes"])

    def _local(self, utterance: Utterance) -> Path:
        """The shard of an utterance as a file here."""
        shard = utterance.extra["shard"]
        if not _is_address(shard):
            return Path(shard)
        sha256 = utterance.extra["sha256"]
        path = self._folder / f"{sha256}.tar"
        if not path.exists():
            failed_at, reason = self._failed.get(shard, (-_RETRY_SECONDS, ""))
            if time.monotonic() - failed_at < _RETRY_SECONDS:
                raise AudioError(reason)
            self._folder.mkdir(parents=True, exist_ok=True)
            with locked(self._folder / f".{sha256}.lock"):
                if not path.exists():
                    self._download(shard, sha256, path)
                    self._drop_oldest()
        os.utime(path)
        return path

    def _download(self, shard: str, sha256: str, path: Path) -> None:
        wait = _FIRST_WAIT
        for attempt in range(_ATTEMPTS):
            try:
                with replacing(path) as temporary:
                    if _copy(shard, temporary) != sha256:
                        raise OSError("not the bytes that the index promises")
                return
            except Exception as error:  # each of fsspec's file systems raises its own
                reason = f"{shard}: cannot be fetched: {type(error).__name__}: {error}"
                if isinstance(error, FileNotFoundError) or attempt == _ATTEMPTS - 1:
                    self._failed[shard] = (time.monotonic(), reason)
                    raise AudioError(reason) from error
            time.sleep(wait)
            wait *= 2

    def _drop_oldest(self) -> None:
        def used(path: Path) -> float:
            try:
                return path.stat().st_mtime
            except FileNotFoundError:  # dropped by another process
                return 0.0

        for path in sorted(self._folder.glob("*.tar"), key=used, reverse=True)[self._keep :]:
            path.unlink(missing_ok=True)
            path.with_name(f".{path.stem}.lock").unlink(missing_ok=True)


def _copy(address: str, path: Path) -> str:
    """Fetch from an address to a path; the sha256 of what came."""
    digest = hashlib.sha256()
    with fsspec.open(address, "rb") as source, path.open("wb") as target:
        while block := source.read(_BLOCK):
            digest.update(block)
            target.write(block)
    return digest.hexdigest()


def _facts(index: str, text: str) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise ManifestError(f"{index}: not an index of shards", "`asr-prepare shard` writes them")
    if facts.get("version") != VERSION:
        raise ManifestError(
            f"{index}: of version {facts.get('version')}, not {VERSION}",
            "write the shards again with asr-prepare shard",
        )
    return facts


def _utterance(line: dict[str, Any], place: dict[str, Any]) -> Utterance:
    name, duration, text, speaker = (
        line.pop(key) for key in ("audio_filepath", "duration", "text", "speaker")
    )
    return Utterance(f"{place['shard']}#{name}", duration, text, speaker, {**line, **place})


def _text(path: str) -> str:
    try:
        with fsspec.open(path, "rt", encoding="utf-8") as file:
            return file.read()
    except Exception as error:  # each of fsspec's file systems raises its own
        reason = getattr(error, "strerror", None) or error
        raise ManifestError(f"{path}: cannot be read: {type(error).__name__}: {reason}") from error


def _beside(index: str, name: str) -> str:
    folder, slash, _ = index.rpartition("/")
    return f"{folder}{slash}{name}"


def _is_address(path: str) -> bool:
    return "://" in path
