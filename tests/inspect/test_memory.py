"""Reading and inspecting take little memory and time: 10 times the file and 64 MiB above the imports, 2 s.

One process imports everything and forks a child for each file, whose peak is then that of the file alone. Real
files are taken where LORASCOPE_REAL_FILES names some; small files that stand for huge updates always.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

MEBIBYTE = 1 << 20
SECONDS = 2.0  # of processor time
PROGRAM = """
import os, resource, sys, time
from pathlib import Path
import torch
import lorascope.cli.inspect
from lorascope.inspect.examine import examine
from lorascope.inspect.measure import facts_of
from lorascope.io.read import read_lora
torch.set_num_threads(1)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def look(path):
    torch.linalg.eigvalsh(torch.eye(4).double() @ torch.eye(4).double())
    before, began = peak(), time.process_time()
    try:
        read_lora(path, allow_pickle=True)
    except Exception as error:
        print(error, file=sys.stderr)
    read = peak()
    found = examine(Path(path), allow_pickle=True)
    found.to_json()
    codes = " ".join(problem.code for problem in found.problems)
    print(read - before, peak() - before, time.process_time() - began, found.outcome, codes, flush=True)

for path in sys.argv[1:]:
    child = os.fork()
    if not child:
        look(path)
        os._exit(0)
    os.waitpid(child, 0)
"""
REAL = os.environ.get("LORASCOPE_REAL_FILES")
WEIGHTS = {".safetensors", ".bin", ".pt"}
PATHS = sorted(p for p in Path(REAL).rglob("*") if p.suffix in WEIGHTS) if REAL else []
PATHS = [path for path in PATHS if not path.parent.name.startswith("hostile")]


def module(name, shapes):
    draw = torch.Generator().manual_seed(sum(map(ord, name)))
    prefix = "base_model.model." if "lora_A.weight" in shapes else "lora_unet_"
    return {
        f"{prefix}{name}.{slot}": (torch.randn(shape, generator=draw) / 16).half()
        for slot, shape in shapes.items()
    }


def hada(n, m, r):
    return {"hada_w1_a": (n, r), "hada_w1_b": (r, m), "hada_w2_a": (n, r), "hada_w2_b": (r, m)}


def middle(n, m, r, k):
    return {
        "lora_down.weight": (r, m, 1, 1),
        "lora_mid.weight": (r, r, k, k),
        "lora_up.weight": (n, r, 1, 1),
    }


MANY = 24
FILES = {
    # about 1 MB each, whose pairs would take 3 GB, 600 MB, 2 GB, 75 MB, 800 MB
    "lokr": [{"lokr_w1": (16, 16), "lokr_w2_a": (320, 16), "lokr_w2_b": (16, 320)}] * MANY,
    "lokr of two whole factors": [{"lokr_w1": (16, 16), "lokr_w2": (128, 128)}] * MANY,
    "lokr, both decomposed": [
        {"lokr_w1_a": (80, 64), "lokr_w1_b": (64, 80), "lokr_w2_a": (80, 16), "lokr_w2_b": (16, 80)}
    ] * MANY,
    "loha": [hada(640, 640, 8)] * MANY,
    "loha of a high rank": [hada(1280, 1280, 48)] * 2,
    "one loha wider than may be decomposed": [hada(3000, 3000, 60)],
    "a middle": [middle(640, 640, 16, 3)] * MANY,
    "more ranks than rows": [{"lora_down.weight": (4096, 8), "lora_up.weight": (8, 4096)}] * 8,
}  # fmt: skip


BEYOND = (
    "loha of a high rank",
    "one loha wider than may be decomposed",
)  # whose singular values cost too much
CLAIMS = {
    "rows": {"lokr_w1": (1 << 12, 1), "lokr_w2": (1 << 12, 1)},
    "columns": {"lokr_w1": (1, 1 << 12), "lokr_w2_a": (2, 2), "lokr_w2_b": (2, 1 << 12)},
    "a kernel": middle(4, 4096, 2, 64),
    "a kernel of loha": {"hada_w1_a": (2, 4), "hada_w1_b": (2, 4096), "hada_t1": (2, 2, 64, 64),
                         "hada_w2_a": (2, 4), "hada_w2_b": (2, 4096), "hada_t2": (2, 2, 64, 64)},
    "a kernel of lokr": {"lokr_w1": (1, 1), "lokr_t2": (2, 2, 64, 64), "lokr_w2_a": (2, 4),
                         "lokr_w2_b": (2, 4096)},
    "groups of a convolution": {"lora_A.weight": (4096, 1, 3), "lora_B.weight": (4096, 1, 1)},
}  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """name -> the file, bytes above the imports of reading and of both, seconds of both, outcome and codes."""
    folder = tmp_path_factory.mktemp("files")
    paths = {path.name: path for path in PATHS}
    made = FILES | {claim: [shapes] for claim, shapes in CLAIMS.items()}
    for name, modules in made.items():
        tensors = {}
        for place, shapes in enumerate(modules):
            tensors |= module(
                f"down_blocks_0_attentions_0_transformer_blocks_{place}_attn1_to_q", shapes
            )
        paths[name] = folder / f"{len(paths)}.safetensors"
        save_file(tensors, paths[name])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, paths.values())],
        capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    lines = [line.split() for line in done.stdout.splitlines()]
    return {
        name: (path, int(read), int(both), float(seconds), outcome, codes)
        for (name, path), (read, both, seconds, outcome, *codes) in zip(
            paths.items(), lines, strict=True
        )
    }


def check(path, read, both, seconds):
    limit = 10 * path.stat().st_size + 64 * MEBIBYTE
    assert read <= both <= limit, f"{both / MEBIBYTE:.0f} MiB, at most {limit / MEBIBYTE:.0f}"
    assert seconds <= SECONDS


@pytest.mark.skipif(REAL is None, reason="LORASCOPE_REAL_FILES names no folder of real files")
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_real_files(path, measured):
    found, read, both, seconds, outcome, _ = measured[path.name]
    check(found, read, both, seconds)
    assert outcome in ("exact", "ambiguous")


@pytest.mark.parametrize("name", FILES)
def test_small_files_of_huge_updates(name, measured):
    path, read, both, seconds, outcome, codes = measured[name]
    check(path, read, both, seconds)
    assert outcome == "exact"
    assert ("spectra" in codes) == (name in BEYOND)


@pytest.mark.parametrize("claim", CLAIMS)
def test_claims_are_refused_before_memory_is_taken(claim, measured):
    _, read, both, seconds, outcome, codes = measured[claim]
    assert (outcome, codes) == ("refused", ["hostile"])
    assert read <= both < 32 * MEBIBYTE
    assert seconds <= SECONDS
