"""The default model, `fusion`, on 64 LoRAs against a bare read of their bytes: features and score together.

Two workloads at rank 4: q and v of Llama-3.2-3B (294 MB in float32), to_q and to_v of the UNet of Stable
Diffusion 1.4 (102 MB). The predictor has random weights of the sizes that training gives: 1,000 landmarks,
however many LoRAs it learned from. Factors are Gaussian; "near rows" makes three u in ten nearly dependent, as
they are in the zoos of images: those need a QR decomposition (`lorascope.symmetry.roots`).

All candidates run in turn, round after round, and ratios are taken within a round. The count says what no
forward goes below: its own bytes at the rate of a sum over them, and its products at the rate of a large square
product of the same type on the same machine. Gram matrices need float32, and half of each, since they are
symmetric. Products with landmarks, 4 x 4 eigenvalue problems and fresh memory are left out of it.

    THP_MEM_ALLOC_ENABLE=1 python -m speed.default_model [--rounds 9] [--threads 2]
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from lorascope.core import GroupBatch, LoRABatch, Signature
from lorascope.models.fusion import Fusion
from speed.gl_net import (
    BATCH,
    RANK,
    SQUARE,
    flat,
    interleaved,
    llama_signature,
    random_batch,
    ratio,
    square,
)
from speed.prediction import random_predictor
from speed.standard_images import STABLE_DIFFUSION, unet_layers
from speed.workloads import signature_of

AT_MOST = 3.0  # times the read of the float32 bytes
NEAR = 0.31  # of all u in the zoo of faces at rank 4


@dataclass(frozen=True)
class Count:
    """Floating point operations of the products of one forward, in the type of the factors and in float32."""

    projections: int
    grams: int
    squares: int
    components: int


def count(model: Fusion) -> Count:
    """What a forward on the whole batch multiplies and adds."""
    projections = grams = squares = 0
    for index, group in enumerate(model.signature.groups()):
        c = model.cores.get_buffer(f"p_{index}").shape[2]
        d = model.cores.get_buffer(f"q_{index}").shape[2]
        projections += 2 * RANK * len(group) * (group.n * c + group.m * d)
        grams += RANK * (RANK + 1) * len(group) * (group.n + group.m)
        squares += RANK * len(group) * (2 * c * d + c * (c + 1) + d * (d + 1))
    components = 2 * model.get_buffer("components").numel()
    return Count(*(BATCH * x for x in (projections, grams, squares, components)))


def with_near_rows(batch: LoRABatch) -> LoRABatch:
    """The batch with the last row of three u in ten within a tenth of the first."""
    generator = torch.Generator().manual_seed(1)
    groups = []
    for group in batch.groups:
        u = group.u.clone()
        near = torch.rand(u.shape[:2], generator=generator) < NEAR
        last = u[:, :, -1]
        last[near] = u[:, :, 0][near] + 0.1 * last[near]
        groups.append(GroupBatch(u, group.v))
    return batch.with_groups(groups)


def measure(title: str, signature: Signature, rounds: int) -> None:
    """Print one workload: both types in the same rounds."""
    predictor = random_predictor("fusion", signature, RANK)
    model = predictor.model
    assert isinstance(model, Fusion)
    single = random_batch(signature)
    half, near = single.to(dtype=torch.bfloat16), with_near_rows(single)
    features = model.features(single)
    works: dict[str, Callable[[], object]] = {
        "read": lambda: [x.sum() for x in flat(single)],
        "read bfloat16": lambda: [x.sum() for x in flat(half)],
        "square": square(torch.float32),
        "square bfloat16": square(torch.bfloat16),
        "float32": lambda: model(single),
        "bfloat16": lambda: model(half),
        "float32, near rows": lambda: model(near),
        "score": lambda: model.score(features),
    }
    times = interleaved(works, rounds)
    report(title, single, count(model), times)


def report(title: str, batch: LoRABatch, work: Count, times: dict[str, list[float]]) -> None:
    """Print times, ratios and the count."""
    print(f"{title}: {batch.nbytes / 1e6:.0f} MB in float32")

    def line(label: str, name: str, note: str = "") -> None:
        spent = f"{median(times[name]) * 1e3:8.1f} ms   (best {min(times[name]) * 1e3:.1f})"
        print(f"  {label:46s} {spent}  {note}".rstrip())

    line("bare read of the float32 bytes", "read")
    line("bare read of the bfloat16 bytes", "read bfloat16")
    for name in ("float32", "float32, near rows", "bfloat16"):
        found = ratio(times, name, "read")
        verdict = "reached" if found <= AT_MOST else "not reached"
        line(
            f"fusion, whole forward, {name}",
            name,
            f"{found:.1f} x the read, {AT_MOST:g}: {verdict}",
        )
    line("  its score alone", "score")
    for name, rate, own in (
        ("float32", "square", "read"),
        ("bfloat16", "square bfloat16", "read bfloat16"),
    ):
        print(f"  {floor(name, work, times, rate, own)}")


def floor(name: str, work: Count, times: dict[str, list[float]], rate: str, own: str) -> str:
    """The count of one type in words."""
    wide = work.grams + work.squares + work.components
    reads, products = [], []
    for fast, slow, own_read, read in zip(
        times[rate], times["square"], times[own], times["read"], strict=True
    ):
        products.append((work.projections * fast + wide * slow) / (2 * SQUARE**3) / read)
        reads.append(own_read / read)
    return (
        f"count, {name}: {work.projections / 1e9:.2f} GFLOP of projections, "
        f"{work.grams / 1e9:.2f} of Gram matrices, {(wide - work.grams) / 1e9:.2f} of the rest: "
        f"{median(products):.1f} reads,\n    and {median(reads):.1f} to read its own bytes; "
        f"both at once {max(median(products), median(reads)):.1f}"
    )


@torch.inference_mode()
def main(arguments: list[str] | None = None) -> None:
    """Print both workloads."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print(f"fusion on {BATCH} LoRAs of rank {RANK}, {options.threads} threads")
    measure("Llama-3.2-3B, q and v", llama_signature(), options.rounds)
    images = signature_of(unet_layers(STABLE_DIFFUSION, ("to_q", "to_v")))
    measure("Stable Diffusion 1.4, to_q and to_v", images, options.rounds)


if __name__ == "__main__":
    main()
