"""The names of the bundled bases: from a name to the folder, and from what a recipe records to a name.

    base_folder("faces-second")                  a standard folder, for from_pretrained, wherever this runs
    bundled_name("faces-second-c734b450c14f")    'faces-second'

A recipe records the name of the base's folder and a sha256 over its files. A base that is completed at first
use lies in NAME-<12 digits> (`faces/folder.py`), so that is what the recipes of its zoos hold.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from lorascope.errors import FileError
from lorascope.zoo.bases.bundled import bundled_folder
from lorascope.zoo.bases.faces.folder import FACES, faces_folder

__all__ = ["BASE_DIGESTS", "base_folder", "bundled_base", "bundled_name"]

#: The sha256 of each (`factory/recipe.py`, base_digest): whether a zoo is of a bundled base is then known
#: where the base cannot be completed, and a folder that only bears the name is told from it.
BASE_DIGESTS: Mapping[str, str] = {
    "exam-qwen": "ce0b7341a87928940f0ed2b0787ffe462feefeea4611367c5e662855c81f1575",
    "exam-qwen-second": "9a059e5c6f7c7a47a609f6dec0d142e88ae3f55c078af94f43d93d2d15775d9e",
    "exam-qwen-control": "e3dd2bfebec1eab7a3d2a3a650a506e6ee508864a0e45b65856ff179a2db7f9e",
    "exam-llama": "7ff436caf69d3e6a785903d4a39e17f39828adbe83dc8b7323f0ca95f9986c05",
    "exam-llama-second": "178f18719b7c48b6a8cd5d71082bdd4ad69cbfb90b808a8bbd87b6b30bdb4217",
    "exam-llama-control": "01e208294d73335dc7b56955e17a22060d8f2c0394c1b55d6e91e857f93c565b",
    "faces": "fa96ef344e4fd6660f889f98ee3804811403f7cab8d0b2364a4d205694ed92fd",
    "faces-second": "bbdfeebccf4b81b2176ebfdaf055cc8247deaaf2465aada82ce5def027576037",
    "faces-control": "7d665a34fa966618356388f4dc63bf066db37cc4e4f384309f8ba10fc6114349",
}
COMPLETED = re.compile(r"(?P<name>.+)-[0-9a-f]{12}")


def base_folder(name: str) -> Path:
    """The folder of a bundled base, for `from_pretrained`; completed at first use where it shares parts.

    Raises:
        FileError: no base of that name is bundled.

    Example:
        >>> base_folder("exam-qwen").name
        'exam-qwen'
    """
    if name not in BASE_DIGESTS:
        raise FileError(
            f"looking for the base {name!r}: found no such bundled base, expected one of "
            f"{', '.join(BASE_DIGESTS)}. Try the path of a base's folder"
        )
    return faces_folder(name) if name in FACES else bundled_folder(name)


def bundled_name(recorded: object) -> str | None:
    """The bundled base that the name of a base's folder means; None for any other.

    Example:
        >>> bundled_name("faces-control-7db8e4d562b8"), bundled_name("Qwen2-1.5B")
        ('faces-control', None)
    """
    completed = COMPLETED.fullmatch(str(recorded))
    for name in (str(recorded), completed["name"] if completed else ""):
        if name in BASE_DIGESTS:
            return name
    return None


def bundled_base(recorded: object) -> str | None:
    """The bundled base that a recipe's `base` is, by name and sha256; None for any other."""
    if not isinstance(recorded, Mapping):
        return None
    name = bundled_name(recorded.get("folder"))
    return name if name and recorded.get("sha256") == BASE_DIGESTS[name] else None
