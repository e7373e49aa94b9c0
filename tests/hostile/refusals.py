"""`Refusal`: a file that its reader must refuse, and the readers as somebody asks them in a bad moment.

The files are in stories_*.py, a table each; the story of each stands in README.md.
"""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import lorascope.io.gguf
from lorascope.io.gguf import read_gguf
from lorascope.io.header import read_header
from lorascope.io.read import read_lora
from lorascope.io.tensors import read_safetensors


@dataclass(frozen=True)
class Refusal:
    """A file and what its reader answers.

    Args:
        error: name of the class.
        says: a pattern in the message.
        content: the file, or what makes something else in its place.
        name: its name.
        config: adapter_config.json beside it.
        ask: the reader.
    """

    error: str
    says: str
    content: bytes | Callable[[Path], None]
    name: str = "lora.safetensors"
    config: bytes | None = None
    ask: Callable[[Path], object] = read_lora

    def make(self, folder: Path) -> Path:
        """Write it into a folder; the path to read."""
        path = folder / self.name
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
        else:
            self.content(path)
        if self.config is not None:
            (folder / "adapter_config.json").write_bytes(self.config)
        return path


def trusting(path: Path) -> object:
    """Read as one does who trusts a pickle."""
    return read_lora(path, allow_pickle=True)


def shrinking(path: Path) -> object:
    """Read while somebody cuts the file."""
    return read_safetensors(path, lambda header: os.truncate(path, header.data_start + 1))


def shrinking_gguf(path: Path) -> object:
    check = lorascope.io.gguf._check_sizes

    def cut(*arguments: object) -> object:
        sizes = check(*arguments)  # type: ignore[arg-type]
        os.truncate(path, path.stat().st_size - 60)
        return sizes

    with patch("lorascope.io.gguf._check_sizes", cut):
        return read_gguf(path)


def without_gguf(path: Path) -> object:
    """Read where the package gguf is not installed."""
    with patch.dict("sys.modules", {"gguf": None}):
        return read_lora(path)


def without_handles(path: Path) -> object:
    """Read in a process that has opened all the files it may."""
    with no_more_files():
        return read_header(path)


@contextmanager
def no_more_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def sparse(size: int, start: bytes) -> Callable[[Path], None]:
    """A file of a size that takes no disk."""

    def make(path: Path) -> None:
        path.write_bytes(start)
        os.truncate(path, size)

    return make
