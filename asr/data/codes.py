"""What another network computes for each frame of a recording: targets besides the transcripts.

Each frame of a recording has one byte for each of several codebooks; `benchmarks/teacher.py` makes
them. They lie in one safetensors file: `codes` (frames, codebooks) uint8 of all recordings, and
`counts` (recordings,) frames of each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from asr.errors import ManifestError
from asr.features import FeatureConfig
from asr.files import replacing
from asr.types import Utterance

UNKNOWN = -1  # the code of a row that has none
CENTROIDS = 256  # of each codebook


class TeacherCodes:
    """The codes of many recordings, read from files. Raises ManifestError for others."""

    def __init__(self, paths: Iterable[str | Path]):
        self.codebooks = 0
        self._codes: dict[str, tuple[np.ndarray, float, float]] = {}
        for path in paths:
            self._read(Path(path))

    def _read(self, path: Path) -> None:
        try:
            with safe_open(path, "numpy") as file:
                about = file.metadata() or {}
                names = json.loads(about["recordings"])
                shift, first = float(about["frame_shift"]), float(about["first_center"])
                codes, counts = file.get_tensor("codes"), file.get_tensor("counts")
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise ManifestError(f"{path}: no file of a teacher's codes ({error})") from error
        if self.codebooks not in (0, codes.shape[1]):
            raise ManifestError(f"{path}: {codes.shape[1]} codebooks, others {self.codebooks}")
        self.codebooks = codes.shape[1]
        parts = np.split(codes, np.cumsum(counts)[:-1])
        self._codes |= {n: (part, shift, first) for n, part in zip(names, parts, strict=True)}

    def __contains__(self, utterance: Utterance) -> bool:
        return recording_key(utterance) in self._codes

    def rows(
        self, utterance: Utterance, features: FeatureConfig, n_rows: int, speed: float = 1.0
    ) -> np.ndarray | None:
        """The codes of each row of features, (n_rows, codebooks) int64; UNKNOWN beyond the end.

        `speed`: how much faster than the recording the features are. None: it has no codes.
        """
        codes, shift, first = self._codes.get(recording_key(utterance), (None, 1.0, 0.0))
        if codes is None or not len(codes):
            return None
        middle = ((features.stack - 1) * features.hop + features.window) / 2
        times = np.arange(n_rows) * features.stride * features.hop + middle
        nearest = np.round((times * speed - first) / shift).astype(np.int64)
        known = nearest <= len(codes)  # the last frame ends a little before the recording
        found = codes[nearest.clip(0, len(codes) - 1)].astype(np.int64)
        found[~known] = UNKNOWN
        return found


def recording_key(utterance: Utterance) -> str:
    """What tells a recording from all others: its file, and where in it it begins."""
    return f"{utterance.audio_filepath}@{utterance.offset or 0.0:g}"


def write_codes(
    path: Path,
    recordings: Sequence[str],
    codes: np.ndarray,
    counts: np.ndarray,
    *,
    frame_shift: float,
    first_center: float,
) -> None:
    """Write what TeacherCodes reads. `first_center`: the middle of the first frame, in seconds."""
    about = {
        "recordings": json.dumps(list(recordings)),
        "frame_shift": str(frame_shift),
        "first_center": str(first_center),
    }
    with replacing(path) as temporary:
        save_file({"codes": codes, "counts": counts}, temporary, about)
