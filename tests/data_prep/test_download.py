"""Downloads from a server that cuts connections, sends wrong bytes and forgets files."""

import dataclasses
import hashlib
import json
import os
import shutil
from collections import namedtuple

import pytest

from data_prep.download import ATTEMPTS, Archive, DownloadError, download, obtain
from tests.data_prep.archives import tar

CONTENT = bytes(range(256)) * 4000


def _fetch(archive, folder):
    return download(archive, folder / archive.name)


def test_fetches_and_returns_the_checksum(server, tmp_path):
    archive = server.offer("a%20b.tar", CONTENT)
    assert archive.name == "a b.tar"
    assert _fetch(archive, tmp_path) == hashlib.sha256(CONTENT).hexdigest()
    assert (tmp_path / "a b.tar").read_bytes() == CONTENT
    _fetch(archive, tmp_path)
    assert len(server.requests) == 1  # it was there already


def test_goes_on_where_the_connection_was_cut(server, tmp_path):
    archive = server.offer("a.tar", CONTENT, "cut", "cut", 503)
    _fetch(archive, tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    half, three_quarters = len(CONTENT) // 2, len(CONTENT) * 3 // 4
    ranges = [wanted for _, wanted in server.requests]
    assert ranges == [None, f"bytes={half}-", *2 * [f"bytes={three_quarters}-"]]


def test_goes_on_where_an_earlier_run_was_killed(server, tmp_path):
    archive = server.offer("a.tar", CONTENT)
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:1000])
    _fetch(archive, tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    assert server.requests == [("/a.tar", "bytes=1000-")]


def test_a_complete_part_needs_no_byte_more(server, tmp_path):
    archive = dataclasses.replace(server.offer("a.tar", CONTENT), size=None)
    (tmp_path / "a.tar.part").write_bytes(CONTENT)
    _fetch(archive, tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_starts_anew_if_the_server_cannot_resume(server, tmp_path):
    archive = server.offer("a.tar", CONTENT, "cut", "no range")
    _fetch(archive, tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_wrong_bytes_are_fetched_again_once(server, tmp_path):
    _fetch(server.offer("once.tar", CONTENT, "wrong"), tmp_path)
    assert (tmp_path / "once.tar").read_bytes() == CONTENT
    with pytest.raises(DownloadError, match=r"sha256 is .*--from-archive"):
        _fetch(server.offer("always.tar", CONTENT, "wrong", "wrong"), tmp_path)
    assert not list(tmp_path.glob("always*"))


def test_md5_is_checked_where_that_is_what_was_published(server, tmp_path):
    archive = server.offer("a.tar", CONTENT)
    good = dataclasses.replace(archive, checksum="md5:" + hashlib.md5(CONTENT).hexdigest())
    assert _fetch(good, tmp_path / "good") == hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(DownloadError, match="md5"):
        _fetch(dataclasses.replace(archive, checksum="md5:" + 32 * "0"), tmp_path / "bad")


def test_another_size_is_seen_before_anything_is_fetched(server, tmp_path):
    archive = server.offer("a.tar", CONTENT, "other")
    with pytest.raises(DownloadError, match="26 bytes on the server, 1,024,000 were published"):
        _fetch(archive, tmp_path)


@pytest.mark.parametrize(("status", "reason"), [(404, "no longer there"), (403, "refused")])
def test_what_is_gone_or_refused_gives_one_line_at_once(server, tmp_path, status, reason):
    archive = server.offer("a.tar", CONTENT, status)
    with pytest.raises(DownloadError, match=reason) as caught:
        _fetch(archive, tmp_path)
    assert "--from-archive" in caught.value.remedy
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 1


def test_gives_up_on_a_server_that_stays_busy(server, tmp_path):
    archive = server.offer("a.tar", CONTENT, *ATTEMPTS * [503])
    with pytest.raises(DownloadError, match=r"503.*5 times in a row.*same command"):
        _fetch(archive, tmp_path)
    assert len(server.requests) == ATTEMPTS


def test_no_network_gives_one_line(tmp_path):
    archive = Archive("http://host.invalid/a.tar")
    with pytest.raises(DownloadError, match=r"no answer from host\.invalid.*check the network"):
        _fetch(archive, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_closed_port_gives_one_line(server, tmp_path):
    archive = server.offer("a.tar", CONTENT)
    server.close()
    with pytest.raises(DownloadError, match=r"no answer from 127\.0\.0\.1"):
        _fetch(archive, tmp_path)


def test_too_full_a_disk_is_seen_before_the_download(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(DownloadError, match=r"0\.0 GB are free.*--to"):
        _fetch(server.offer("a.tar", CONTENT), tmp_path)
    assert server.requests == []


def test_obtain_unpacks_marks_and_tidies_up(server, tmp_path):
    archive = server.offer("a.tar.gz", tar({"corpus/a.txt": b"hello"}), folder="inner")
    obtain(archive, tmp_path)
    assert (tmp_path / "inner/corpus/a.txt").read_bytes() == b"hello"
    marker = json.loads((tmp_path / ".a.tar.gz.completed").read_text())
    assert marker == {
        "url": archive.url, "size": archive.size, "sha256": archive.checksum.partition(":")[2]
    }  # fmt: skip
    assert not (tmp_path / "a.tar.gz").exists()
    obtain(archive, tmp_path)
    assert len(server.requests) == 1


def test_obtain_takes_a_local_archive_and_keeps_it(server, tmp_path):
    archive = server.offer("a.tar.gz", tar({"a.txt": b"hello"}))
    local = tmp_path / "mine.tar.gz"
    local.write_bytes(server.files["/a.tar.gz"])
    obtain(archive, tmp_path / "out", local)
    assert (tmp_path / "out/a.txt").read_bytes() == b"hello"
    assert local.exists()
    assert server.requests == []
    local.write_bytes(tar({"a.txt": b"other"}))
    with pytest.raises(DownloadError, match="--from-folder"):
        obtain(archive, tmp_path / "out2", local)
    with pytest.raises(DownloadError, match=r"nothing\.tar\.gz"):
        obtain(archive, tmp_path / "out3", tmp_path / "nothing.tar.gz")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(server, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DownloadError, match="cannot be written"):
        _fetch(server.offer("a.tar", CONTENT), tmp_path)
