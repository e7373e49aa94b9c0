"""The SHA-256 of a file, its identity in provenance, indexes and checks of integrity."""

import hashlib
from pathlib import Path

from lorascope.io.header import open_regular

__all__ = ["file_sha256"]


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        FormatError: it is no regular file, or cannot be opened.
    """
    with open_regular(Path(path)) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
