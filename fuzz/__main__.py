"""Fuzz the readers for a while and report counts: python -m fuzz [--seconds 600].

Starts from the valid files of every format (tests/hostile/valid.py). Ends with 1 when a file broke a limit or
raised another error than one of the tree; the file is kept and named. Ends with 2 when the fuzzer itself
stopped before its time or counted nothing: no news is not good news. Needs atheris: pip install '.[fuzz]'.
"""

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.hostile.valid import NAMES, write

from fuzz.kinds import KINDS

FOUND = re.compile(r"Test unit written to (\S+)")
MAX_BYTES = 1 << 16
SECONDS_A_FILE = 10  # the target itself allows 2 seconds of work; this ends what hangs
MEMORY_MEBIBYTES = 4096


def main() -> int:
    """Run the fuzzer in a process of its own; its exit code says whether anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--keep", type=Path, default=Path("fuzz/found"), help="where findings go")
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print(
            "Fuzzing needs atheris, which is not installed here: skipped. Try: pip install '.[fuzz]'"
        )
        return 0
    options.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        corpus = seeds(place)
        command = [
            sys.executable, "-m", "fuzz.target", str(corpus), f"-max_total_time={options.seconds}",
            f"-max_len={MAX_BYTES}", f"-timeout={SECONDS_A_FILE}", f"-rss_limit_mb={MEMORY_MEBIBYTES}",
            f"-artifact_prefix={options.keep}/",
        ]  # fmt: skip
        began = time.monotonic()
        ended = subprocess.run(
            command,
            env={**os.environ, "LORASCOPE_FUZZ": folder, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        counts = place / "counts.json"
        told = json.loads(counts.read_text()) if counts.is_file() else {}
    spent = time.monotonic() - began
    code = verdict(told, ended.returncode, spent, options.seconds)
    report(told, ended, spent, code)
    return code


def seeds(place: Path) -> Path:
    """The corpus: valid files with their kind before them."""
    corpus = place / "corpus"
    corpus.mkdir()
    for number, name in enumerate(NAMES):
        folder = place / f"valid-{number}"
        folder.mkdir()
        path = write(name, folder)
        for kind, (suffix, _) in enumerate(KINDS):
            if suffix == path.suffix:
                (corpus / f"{number}-{kind}").write_bytes(bytes([kind]) + path.read_bytes())
    return corpus


def verdict(counts: dict[str, int], returncode: int, spent: float, seconds: int) -> int:
    """0 when it ran its time and found nothing, 1 when it found something, 2 when it did not run.

    Args:
        counts: what the target counted.
        returncode: how the fuzzer ended.
        spent: seconds it took.
        seconds: what it was given.
    """
    if returncode:
        return 1
    return 0 if counts.get("files") and spent >= seconds else 2


def report(
    counts: dict[str, int], ended: subprocess.CompletedProcess[str], spent: float, code: int
) -> None:
    """Print how many files were looked at and what became of them."""
    files = counts.get("files", 0)
    outcomes = ", ".join(
        f"{count} {name}" for name, count in sorted(counts.items()) if name != "files"
    )
    print(f"{files} files in {spent:.0f} s: {outcomes or 'none finished'}")
    if code == 0:
        print("nothing found: every file was read or refused, in time and within memory")
        return
    print(ended.stderr[-4000:])
    if code == 2:
        print(
            "the fuzzer ended before its time or looked at nothing: this says nothing about the readers"
        )
    for kept in FOUND.findall(ended.stderr):
        print(f"kept: {kept}")


if __name__ == "__main__":
    sys.exit(main())
