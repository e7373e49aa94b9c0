"""The target that atheris calls: bytes -> a file of one of the kinds -> `survive`.

    first byte: the kind of file (kinds.py)        rest: its content

Run by `python -m fuzz`, not by hand: it needs a corpus folder and a folder for its file.
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path

import atheris

from fuzz.kinds import KINDS

with atheris.instrument_imports(include=["lorascope"]):
    from tests.hostile.survival import survive

    # `examine` imports these when it needs them, which would be too late to be followed
    import lorascope.inspect.measure
    import lorascope.io.read  # noqa: F401

EVERY = 200  # units between two writings of the counts
FOLDER = Path(os.environ["LORASCOPE_FUZZ"])
COUNTS: Counter[str] = Counter()


def one_input(data: bytes) -> None:
    """Look at one file; whatever `survive` raises is a finding, which atheris keeps and reports."""
    if not data:
        return
    suffix, made = KINDS[data[0] % len(KINDS)]
    path = FOLDER / f"file{suffix}"
    path.write_bytes(made(data[1:]))
    COUNTS[survive(path).outcome] += 1
    COUNTS["files"] += 1
    if COUNTS["files"] % EVERY == 0:
        (FOLDER / "counts.json").write_text(json.dumps(COUNTS))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
