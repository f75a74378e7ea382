"""Folders that results go to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


class FolderError(ValueError):
    """A folder that cannot be written to, told in one line."""


def writable(out: str | os.PathLike[str]) -> Path:
    """A folder that can be written to, as it is or once it is made; nothing is made yet.

    To be asked before any work is done.

    Raises:
        FolderError: an empty name, a file, or a place where nobody may write.
    """
    if not os.fspath(out):
        raise FolderError("--out: expected a folder, got an empty name")
    folder = Path(out)
    try:
        with tempfile.TemporaryFile(dir=nearest(folder)):
            pass
    except OSError as error:
        kind = (
            "is a file, not a folder" if os.path.isfile(folder) else f"cannot be written ({error.strerror})"
        )
        raise FolderError(f"--out: {folder} {kind}") from error
    return folder


def nearest(folder: Path) -> Path:
    """The folder, or what is there of the way to it."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
