"""Fuzz the readers for a while and report counts: python -m fuzz [--seconds 600].

Starts from the valid files of every format (tests/hostile/valid.py). Ends with 1 when a file broke a limit or
raised another error than one of the tree; the file is kept and named. Needs atheris: pip install '.[fuzz]'.
"""

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.hostile.valid import NAMES, write

SUFFIXES = (".safetensors", ".gguf", ".npz", ".bin", ".pt")
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
        ended = subprocess.run(
            command,
            env={**os.environ, "LORASCOPE_FUZZ": folder, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        counts = place / "counts.json"
        told = json.loads(counts.read_text()) if counts.is_file() else {}
    report(told, ended, options.seconds)
    return 1 if ended.returncode else 0


def seeds(place: Path) -> Path:
    """The corpus: valid files with their kind before them."""
    corpus = place / "corpus"
    corpus.mkdir()
    for number, name in enumerate(NAMES):
        folder = place / f"valid-{number}"
        folder.mkdir()
        path = write(name, folder)
        kind = SUFFIXES.index(path.suffix)
        (corpus / str(number)).write_bytes(bytes([kind]) + path.read_bytes())
    return corpus


def report(counts: dict[str, int], ended: subprocess.CompletedProcess[str], seconds: int) -> None:
    """Print how many files were looked at and what became of them."""
    files = counts.pop("files", 0)
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    print(f"{files} files in at most {seconds} s: {outcomes or 'none finished'}")
    if ended.returncode:
        print(ended.stderr[-4000:])
        for kept in FOUND.findall(ended.stderr):
            print(f"kept: {kept}")
    else:
        print("nothing found: every file was read or refused, in time and within memory")


if __name__ == "__main__":
    sys.exit(main())
