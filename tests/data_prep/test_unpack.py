"""Archives that try to write where they should not, or too much."""

import io
import os
import stat
import struct
import tarfile
import zipfile

import pytest

from data_prep.unpack import UnpackError, members, unpack


def _tar(path, *members, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def _file(name, content=b"hello"):
    return tarfile.TarInfo(name), content


def _link(name, target, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_unpacks_tar(tmp_path, mode):
    folder = tarfile.TarInfo("empty")
    folder.type = tarfile.DIRTYPE
    path = _tar(tmp_path / "a.tar", _file("x/y.txt"), (folder, b""), _file("z.txt", b""), mode=mode)
    unpack(path, tmp_path / "out")
    unpack(path, tmp_path / "out")  # a second time over the first
    assert (tmp_path / "out/x/y.txt").read_bytes() == b"hello"
    assert (tmp_path / "out/z.txt").read_bytes() == b""
    assert (tmp_path / "out/empty").is_dir()


def test_unpacks_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("x/y.txt", b"hello")
        zipped.mkdir("empty")
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out/x/y.txt").read_bytes() == b"hello"
    assert (tmp_path / "out/empty").is_dir()


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "C:/evil", "..\\evil"])
def test_no_path_leads_out(tmp_path, name):
    tar = _tar(tmp_path / "a.tar", _file(name))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr(name, b"hello")
    for path in (tar, tmp_path / "a.zip"):
        with pytest.raises(UnpackError, match="out of the folder"):
            unpack(path, tmp_path / "in/out")
    assert [p.name for p in tmp_path.rglob("*evil*")] == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_no_links_and_devices_from_tar(tmp_path, kind):
    path = _tar(tmp_path / "a.tar", _link("x", "/etc/passwd", kind), _file("x"))
    with pytest.raises(UnpackError, match="link or a device"):
        unpack(path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_no_links_from_zip(tmp_path):
    info = zipfile.ZipInfo("x")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr(info, "/etc/passwd")
    with pytest.raises(UnpackError, match="link or a device"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_link_that_lies_there_already_is_not_followed(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/x").symlink_to(tmp_path)
    (tmp_path / "out/y").symlink_to(tmp_path / "victim")
    for name in ("x/victim", "y"):
        with pytest.raises(UnpackError, match="out of the folder"):
            unpack(_tar(tmp_path / "a.tar", _file(name)), tmp_path / "out")
    assert not (tmp_path / "victim").exists()


def test_bombs_are_stopped_before_they_go_off(tmp_path):
    silence = bytes(1 << 20)
    tar = _tar(tmp_path / "a.tar.gz", *(_file(f"{i}.raw", silence) for i in range(20)))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for i in range(20):
            zipped.writestr(f"{i}.raw", silence)
    for path in (tar, tmp_path / "a.zip"):
        with pytest.raises(UnpackError, match="bomb"):
            unpack(path, tmp_path / path.stem, max_bytes=10 << 20)
        assert len(list((tmp_path / path.stem).iterdir())) == 10
        unpack(path, tmp_path / path.stem)  # 20 MiB are no bomb by themselves


@pytest.mark.parametrize("suffix", ["tar.gz", "zip"])
def test_damage_is_noticed(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    noise = bytes((i * i) >> 3 & 255 for i in range(100_000))
    if suffix == "zip":
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr("noise.raw", noise)
    else:
        _tar(path, _file("noise.raw", noise))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnpackError, match=f"a.{suffix}"):
        unpack(path, tmp_path / "cut")
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    with pytest.raises(UnpackError, match="damaged"):
        unpack(path, tmp_path / "flipped")


def test_what_is_no_archive(tmp_path):
    (tmp_path / "page.tar.gz").write_text("<html>not found</html>")
    with pytest.raises(UnpackError, match="damaged archive"):
        unpack(tmp_path / "page.tar.gz", tmp_path / "out")


def _header(kind, size, name="././@LongLink"):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def _claiming(path, header, size):
    """A file of a header and so many zeros, which take no place on the disk."""
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + size)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
        *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    ],
)
@pytest.mark.parametrize("size", [1_500_000_000, 1 << 40, -1, -512])
def test_headers_of_any_size_do_not_reach_the_memory(tmp_path, kind, size):
    path = _claiming(tmp_path / "a.tar", _header(kind, size), min(max(size, 0), 1_500_000_000))
    with pytest.raises(UnpackError, match="a header of"):
        unpack(path, tmp_path / "out")


def test_attributes_for_all_members_do_not_add_up(tmp_path):
    with (tmp_path / "a.tar").open("wb") as file:
        for i in range(4):
            value = f"comment{i}=" + "x" * 500_000
            record = f"{len(value) + 8} {value}\n".encode()
            file.write(_header(tarfile.XGLTYPE, len(record), "pax") + record)
            file.write(bytes(-len(record) % 512))
    with pytest.raises(UnpackError, match="a header of"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_headers_upon_headers_end(tmp_path):
    name = _header(tarfile.GNUTYPE_LONGNAME, 5) + b"name\0".ljust(512, b"\0")
    (tmp_path / "a.tar").write_bytes(name * 5000)
    with pytest.raises(UnpackError):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_a_long_name_is_kept(tmp_path):
    name = "/".join(["folder" * 20] * 5) + "/file.txt"
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "a.tar", "w", format=format) as tar:
            info = tarfile.TarInfo(name)
            info.size = 5
            tar.addfile(info, io.BytesIO(b"hello"))
        unpack(tmp_path / "a.tar", tmp_path / str(format))
        assert (tmp_path / str(format) / name).read_bytes() == b"hello"


@pytest.mark.parametrize(
    "attributes",
    [
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
        {"GNU.sparse.map": "0,1"},
        {"GNU.sparse.size": "5"},
        {"size": "-512"},
        {"size": "99999999999999999999"},
        {"path": "a\0b"},
        {"path": "x" * 100_000},
    ],
)
def test_attributes_that_lie(tmp_path, attributes):
    info = tarfile.TarInfo("x")
    info.size, info.pax_headers = 5, attributes
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(b"hello"))
    with pytest.raises(UnpackError):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_a_sparse_file_of_the_old_kind_is_refused(tmp_path):
    path = _claiming(tmp_path / "a.tar", _header(tarfile.GNUTYPE_SPARSE, 0, "x"), 1024)
    with pytest.raises(UnpackError, match="sparse"):
        unpack(path, tmp_path / "out")


def test_a_table_of_contents_that_would_fill_the_memory(tmp_path):
    size = 1_500_000_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, size, 0, 0)
    with (tmp_path / "a.zip").open("wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(end)
    with pytest.raises(UnpackError, match="table of contents"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "nothing"])
def test_what_is_no_file_does_not_hang(tmp_path, kind):
    path = tmp_path / "a.tar"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(UnpackError, match="not a file"):
        unpack(path, tmp_path / "out")
    with pytest.raises(UnpackError, match="not a file"), members(path):
        pass
