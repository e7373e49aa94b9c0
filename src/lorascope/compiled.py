"""Kernels in C, compiled at first use and once for each processor. What they compute stands beside them.

Whoever calls one has a way without: no compiler is needed for anything. The source is a file of this package;
the compiler is $CC, or the system's.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from lorascope.home import home

__all__ = [
    "Unavailable",
    "address",
    "addresses",
    "compiled",
    "compiled_or_none",
    "compiler_version",
    "integers",
    "wide_kernel",
]

log = logging.getLogger(__name__)

#: Where exp is a vector function the compiler must be allowed to reorder sums; the linker is not told,
#: or it would switch off subnormal numbers in the whole process.
FLAGS = ("-O3", "-ffast-math", "-march=native", "-mprefer-vector-width=512", "-fPIC")

Unavailable = (OSError, subprocess.SubprocessError)
"""What `compiled` raises where no C compiler works."""


@functools.cache
def compiled(name: str, *, threads: bool = False) -> ctypes.CDLL:
    """The kernels of `data/kernels/<name>.c`. Raises one of `Unavailable` where no C compiler works.

    With `threads` it may use OpenMP, which is torch's own in the process: it is not linked, so that there are
    never two of them.
    """
    source = Path(str(files("lorascope") / "data" / "kernels" / f"{name}.c"))
    flags = (*FLAGS, "-fopenmp") if threads else FLAGS
    return ctypes.CDLL(str(_shared_object(_compiler(), flags, source)))


def compiler_version() -> str:
    """The compiler's own first line on its version; empty where there is none that runs."""
    try:
        lines = _version(_compiler()).decode(errors="replace").splitlines()
    except Unavailable:
        return ""
    return lines[0].strip() if lines else ""


@functools.cache
def compiled_or_none(name: str, *, threads: bool = False) -> ctypes.CDLL | None:
    """The same, or None, said once, where no C compiler works."""
    try:
        return compiled(name, threads=threads)
    except Unavailable as problem:
        _say_once(str(problem)[:200])
        return None


@functools.cache
def _say_once(reason: str) -> None:
    log.warning(
        "compiling kernels: no C compiler works here (%s). Going on without: the same adapters, in "
        "about three times as long. Try installing gcc, or setting CC",
        reason,
    )


@functools.cache
def wide_kernel(name: str, function: str | None = None) -> Any:
    """A function of the kernels of that name, made for lanes of 512 bits and for torch's threads.

    It is called as they are where nothing else is said. None where the processor has no such lanes or no C
    compiler works.
    """
    import torch

    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None
    try:
        return getattr(compiled(name, threads=True), function or name)
    except Unavailable:
        return None


def address(x: Any) -> ctypes.c_void_p:
    """Where the numbers of a tensor lie, as an argument; of None 0. Whoever calls keeps the tensor."""
    return ctypes.c_void_p(None if x is None else x.data_ptr())


def addresses(tensors: Iterable[Any]) -> "ctypes.Array[ctypes.c_int64]":
    """The same of several, as a structure of pointers."""
    return integers(*(0 if each is None else each.data_ptr() for each in tensors))


def integers(*values: int) -> "ctypes.Array[ctypes.c_int64]":
    """Numbers of 64 bits, as a structure."""
    return (ctypes.c_int64 * len(values))(*values)


def _compiler() -> tuple[str, ...]:
    """The command of the C compiler: $CC, which may have arguments (ccache gcc), or the system's."""
    named = shlex.split(os.environ.get("CC", ""))
    return tuple(named) or (shutil.which("cc") or shutil.which("gcc") or "cc",)


@functools.cache
def _version(compiler: tuple[str, ...]) -> bytes:
    """What a compiler says of its version. Raises one of `Unavailable` where it does not run."""
    return subprocess.run([*compiler, "--version"], capture_output=True, check=True).stdout


def _shared_object(compiler: tuple[str, ...], flags: tuple[str, ...], source: Path) -> Path:
    """The shared object for this source, compiler and processor; made at first use."""
    version = _version(compiler)
    shared = [part.read_bytes() for part in sorted(source.parent.glob("*.h"))]
    facts = (source.read_bytes(), *shared, version, _processor().encode(), " ".join(flags).encode())
    digest = hashlib.sha256(b"\0".join(facts)).hexdigest()[:16]
    place = home() / "kernels" / f"{source.stem}-{digest}.so"
    if place.is_file():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        part, whole = Path(folder) / "part.o", Path(folder) / "whole.so"
        for command in (
            [*compiler, *flags, "-c", str(source), "-o", str(part)],
            [*compiler, "-shared", str(part), "-o", str(whole), "-lm"],
        ):
            subprocess.run(command, capture_output=True, check=True)
        whole.rename(place)
    return place


def _processor() -> str:
    """What decides which instructions there are."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.is_file() else []
    flags = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
    return platform.machine() + "".join(sorted(set(flags)))
