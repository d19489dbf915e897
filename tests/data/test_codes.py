"""The codes of a teacher, frame by frame."""

from pathlib import Path

import numpy as np
import pytest

from asr.data.codes import UNKNOWN, TeacherCodes, write_codes
from asr.errors import ManifestError
from asr.features import FeatureConfig
from asr.types import Utterance

FEATURES = FeatureConfig(n_mels=8, stack=3, stride=3)  # a row every 30 ms, the first at 22.5 ms


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two recordings, with 4 and 6 frames of 20 ms whose codes count up."""
    codes = np.arange(20, dtype=np.uint8).reshape(10, 2)
    path = tmp_path / "codes.safetensors"
    counts = np.array([4, 6])
    write_codes(
        path, ["/a.wav@0", "/b.wav@1.5"], codes, counts, frame_shift=0.02, first_center=0.01
    )
    return path


def test_each_row_has_the_codes_of_the_nearest_frame(path):
    codes = TeacherCodes([path])
    rows = codes.rows(Utterance("/a.wav", 0.09, ""), FEATURES, 3)
    assert codes.codebooks == 2
    assert rows.tolist() == [[2, 3], [4, 5], [6, 7]]  # at 22.5, 52.5 and 82.5 ms


def test_rows_behind_the_last_frame_have_none(path):
    rows = TeacherCodes([path]).rows(Utterance("/a.wav", 0.2, ""), FEATURES, 5)
    assert rows[3:].tolist() == [[UNKNOWN] * 2] * 2


def test_speech_that_was_made_faster(path):
    codes, utterance = TeacherCodes([path]), Utterance("/b.wav", 0.12, "", offset=1.5)
    assert codes.rows(utterance, FEATURES, 2, speed=2.0).tolist() == [[12, 13], [18, 19]]


def test_a_part_of_a_recording_is_another(path):
    codes = TeacherCodes([path])
    assert Utterance("/b.wav", 0.1, "", offset=1.5) in codes
    assert Utterance("/b.wav", 0.1, "") not in codes
    assert codes.rows(Utterance("/b.wav", 0.1, ""), FEATURES, 2) is None


def test_later_files_add_recordings(path, tmp_path):
    other = tmp_path / "other.safetensors"
    codes = np.full((1, 2), 7, np.uint8)
    write_codes(other, ["/c.wav@0"], codes, np.array([1]), frame_shift=0.02, first_center=0.01)
    both = TeacherCodes([path, other])
    assert both.rows(Utterance("/c.wav", 0.03, ""), FEATURES, 1).tolist() == [[7, 7]]
    assert Utterance("/a.wav", 0.1, "") in both


def test_other_codebooks_and_other_files_are_refused(path, tmp_path):
    other = tmp_path / "other.safetensors"
    codes = np.zeros((1, 3), np.uint8)
    write_codes(other, ["/c.wav@0"], codes, np.array([1]), frame_shift=0.02, first_center=0.01)
    with pytest.raises(ManifestError, match="3 codebooks"):
        TeacherCodes([path, other])
    other.write_text("no codes")
    with pytest.raises(ManifestError, match="no file of a teacher's codes"):
        TeacherCodes([other])
    with pytest.raises(ManifestError, match="no file of a teacher's codes"):
        TeacherCodes([tmp_path / "missing"])
