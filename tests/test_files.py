"""Files and folders that are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from asr.files import replacing


def test_a_file_and_a_folder_appear_at_the_end(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("all of it")
        assert not (tmp_path / "a.txt").exists()
    with replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "b.txt").write_text("too")
    assert (tmp_path / "a.txt").read_text() == "all of it"
    assert (tmp_path / "folder/b.txt").read_text() == "too"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "folder"]


def test_the_folder_of_a_file_is_made(tmp_path: Path) -> None:
    with replacing(tmp_path / "runs" / "new" / "a.txt") as temporary:
        temporary.write_text("all of it")
    assert (tmp_path / "runs/new/a.txt").read_text() == "all of it"


@pytest.mark.parametrize("folder", [False, True])
def test_a_failure_leaves_nothing(tmp_path: Path, folder: bool) -> None:
    def write() -> None:
        with replacing(tmp_path / "a") as temporary:
            if folder:
                temporary.mkdir()
                (temporary / "part").touch()
            else:
                temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(tmp_path.iterdir()) == []
