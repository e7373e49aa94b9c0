"""Published models and data by name: from the Hub's cache on this machine, else from the Hub.

Nothing is fetched unless a recipe that names it is asked for; HF_HUB_OFFLINE=1 keeps it from the
network. What was fetched is linked under $LORASCOPE_HOME by its own name, which recipes then hold, in a folder
of its revision: workers load a base when they start, and what a link means must not change until then.
"""

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lorascope.errors import FileError, MissingExtraError
from lorascope.home import home

__all__ = ["OnHub", "fetch"]


@dataclass(frozen=True)
class OnHub:
    """What to fetch."""

    name: str  # owner/name
    files: Sequence[str]  # patterns
    kind: Literal["model", "dataset"] = "model"
    licence: str = ""  # what has to be done first, if anything

    @property
    def advice(self) -> str:
        """How to get it by hand."""
        what = " --repo-type dataset" if self.kind == "dataset" else ""
        first = f"{self.licence}, then " if self.licence else ""
        return (
            f"{first}'hf download {self.name}{what} --local-dir FOLDER' where there is a network, and "
            "give FOLDER instead of the name"
        )


def fetch(wanted: OnHub) -> Path:
    """The folder of something on the Hub, called by its own name.

    Raises:
        FileError: it is not in the cache and cannot be fetched; says how to get it by hand.
        MissingExtraError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as missing:
        raise MissingExtraError("huggingface_hub", "zoo", f"fetching {wanted.name}") from missing
    try:
        # without a network this falls back to the cache by itself
        found = snapshot_download(
            wanted.name, repo_type=wanted.kind, allow_patterns=list(wanted.files)
        )
    except Exception as problem:  # of the network, of the Hub, of licences: many libraries' own
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        raise FileError(
            f"fetching the {wanted.kind} {wanted.name} from the Hub: {lines[0][:200]}. It is not in "
            f"the cache of this machine either. Try {wanted.advice}"
        ) from problem
    return _named(Path(found), wanted)


def _named(found: Path, wanted: OnHub) -> Path:
    """A link to a snapshot, whose own name is a hash."""
    kind = "bases" if wanted.kind == "model" else "data"
    place = home() / kind / found.name[:12] / wanted.name.split("/")[-1]
    place.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        if place.resolve() == found.resolve():
            return place
    with tempfile.TemporaryDirectory(dir=place.parent) as beside:
        link = Path(beside) / "link"
        link.symlink_to(found.resolve(), target_is_directory=True)
        link.replace(place)
    return place
