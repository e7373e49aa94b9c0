"""What a build runs on: the machine, and the versions of all that computes. The start of a build logs it."""

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from lorascope.compiled import compiler_version
from lorascope.io.processes import cores

__all__ = ["VERSIONS", "machine", "now"]

#: What `machine` says the versions of, as the card of a zoo repeats them. Where no C compiler was used none is
#: named, and a library that is not installed is not either: peft takes no part in a build.
VERSIONS = ("lorascope", "python", "torch", "transformers", "diffusers", "compiler")


def now() -> str:
    """The time, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def machine(
    processes: int | None, cluster: str | None, device: torch.device, *, compiled: bool
) -> dict[str, Any]:
    """The machine and its versions, as plain data.

    Args:
        compiled: whether kernels in C compute; their compiler is then named.
    """
    facts = {
        "time": now(),
        "host": platform.node(),
        "processes": len(cores()) if processes is None and cluster is None else processes,
        "cluster": cluster,
        "device": str(device),
        "compiled": compiled,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    for library in ("lorascope", "transformers", "diffusers"):
        try:
            facts[library] = version(library)
        except PackageNotFoundError:
            continue
    if compiled and (named := compiler_version()):
        facts["compiler"] = named
    return facts
