"""Gram matrices of 2,000 LoRAs with the layer shapes of the exam base, against the dense way.

The exact sum over layers of <dW_i, dW_j> without a dense update: 2,000 LoRAs of 8 layers (96 x 96 and
48 x 96, rank 4) in under 10 s on 2 cores, scratch memory bounded by the block. The dense way, a flat matrix
of all updates times its transpose, is timed beside it.

    python -m speed.gram [--count 2000]
"""

import argparse
import time

import torch

from lorascope.core import GroupBatch, LayerShape, LoRABatch, Signature, gram

DEPTH, WIDTH, NARROW, RANK = 4, 96, 48, 4
SECONDS_AT_MOST = 10.0


def exam_batch(count: int) -> LoRABatch:
    """Gaussian LoRAs on q and v of four blocks."""
    layers = []
    for block in range(DEPTH):
        layers.append(LayerShape(f"model.layers.{block}.self_attn.q_proj", WIDTH, WIDTH))
        layers.append(LayerShape(f"model.layers.{block}.self_attn.v_proj", NARROW, WIDTH))
    signature = Signature(tuple(layers))
    generator = torch.Generator().manual_seed(0)
    groups = tuple(
        GroupBatch(
            torch.randn(len(g), count, RANK, g.n, generator=generator),
            torch.randn(len(g), count, RANK, g.m, generator=generator),
        )
        for g in signature.groups()
    )
    return LoRABatch(signature, groups, torch.full((count, len(layers)), RANK))


def dense_gram(batch: LoRABatch) -> torch.Tensor:
    """The same matrix by way of every dense update: what a user would write first."""
    rows = [torch.einsum("lbrn,lbrm->blnm", group.u, group.v).flatten(1) for group in batch.groups]
    flat = torch.cat(rows, dim=1)
    return flat @ flat.T


def main(arguments: list[str] | None = None) -> None:
    """Print the seconds of each way and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    count = parser.parse_args(arguments).count
    batch = exam_batch(count)
    results, seconds = {}, {}
    for name, compute in {
        "raw": lambda: gram(batch),
        "cosine": lambda: gram(batch, kind="cosine"),
        "dense": lambda: dense_gram(batch),
    }.items():
        started = time.perf_counter()
        results[name] = compute()
        seconds[name] = time.perf_counter() - started
    gap = float((results["raw"] - results["dense"]).abs().max() / results["dense"].abs().max())
    print(f"{count} LoRAs, {torch.get_num_threads()} threads; raw equals dense within {gap:.1e}")
    for name, spent in seconds.items():
        bound = f"  (at most {SECONDS_AT_MOST:g} s)" if name in ("raw", "cosine") else ""
        print(f"  {name:7s} {spent:6.2f} s  {spent / seconds['raw']:5.1f} x raw{bound}")


if __name__ == "__main__":
    main()
