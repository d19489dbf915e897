"""Archives that try to write where they should not, or too much."""

import io
import stat
import tarfile
import zipfile

import pytest

from data_prep.unpack import UnpackError, unpack


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
