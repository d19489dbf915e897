"""Small archives, made in memory."""

from __future__ import annotations

import io
import tarfile


def tar(files: dict[str, bytes]) -> bytes:
    """A .tar.gz of files: name -> content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
