"""GL-net on 64 LoRAs of Llama-3.2-3B, against a bare read of their bytes and against a loop over layers.

28 layers of q (3072 -> 3072) and v (3072 -> 1024), rank 4: 73 million numbers, 294 MB in float32. The model
has one equivariant layer of width 16 and a linear head on its products, as the paper's; the network of the
catalogue, with unit norm and sizes, is timed beside it. The loop is the same model with the same weights on one
(b, n, r) tensor a layer and side, as it is written first (phi @ u) and in the fastest of three ways; all
outputs are compared first. What the default model costs: `speed.default_model`.

All candidates run in turn, round after round, so that a busy machine slows them alike. Ratios are taken
within each round, and the median of the rounds is printed. The count says what no implementation goes below:
2 r c sum (n + m) floating point operations per LoRA at the rate of a large square product on the same machine,
and its own bytes at the rate of a sum over them. Both are taken in the same rounds, and a target beyond the
count is called so.

Memory is read at half the speed on small pages: THP_MEM_ALLOC_ENABLE=1 (set by `python -m speed`) asks torch
for huge ones where the system leaves them to choice.

    THP_MEM_ALLOC_ENABLE=1 python -m speed.gl_net [--rounds 15]
"""

import argparse
import copy
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from lorascope.core import GroupBatch, LayerShape, LoRABatch, Signature
from lorascope.layers import batched_matmul, onednn_is_exact
from lorascope.models.gl_net import GLNet

BATCH, RANK, WIDTH, DEPTH = 64, 4, 16, 28
READ_AT_MOST, LOOP_AT_LEAST = 2.0, {torch.float32: 2.5, torch.bfloat16: 5.0}
SQUARE = 1024


def llama_signature() -> Signature:
    """q and v of every block of Llama-3.2-3B."""
    names = [f"model.layers.{i}.self_attn" for i in range(DEPTH)]
    q = [LayerShape(f"{name}.q_proj", 3072, 3072) for name in names]
    v = [LayerShape(f"{name}.v_proj", 1024, 3072) for name in names]
    return Signature(tuple(q + v))


def random_batch(signature: Signature) -> LoRABatch:
    """Gaussian factors in the layout of a batch."""
    generator = torch.Generator().manual_seed(0)
    groups = tuple(
        GroupBatch(
            torch.randn(len(g), BATCH, RANK, g.n, generator=generator),
            torch.randn(len(g), BATCH, RANK, g.m, generator=generator),
        )
        for g in signature.groups()
    )
    ranks = torch.full((BATCH, len(signature)), RANK)
    return LoRABatch(signature, groups, ranks)


class Loop:
    """The model as a loop over layers, on tensors (b, n, r): the way it is written down first."""

    WAYS: tuple[tuple[str, Callable[[Tensor, Tensor], Tensor]], ...] = (
        ("phi @ u", lambda u, phi: phi @ u),
        ("einsum", lambda u, phi: torch.einsum("cn,bnr->bcr", phi, u)),
        ("linear", lambda u, phi: torch.nn.functional.linear(u.mT.contiguous(), phi).mT),
    )

    def __init__(self, model: GLNet, batch: LoRABatch) -> None:
        self.model = model
        self.u = [u.mT.contiguous() for group in batch.groups for u in group.u]
        self.v = [v.mT.contiguous() for group in batch.groups for v in group.v]
        self.name, self.way = self.WAYS[0]

    def __call__(self) -> Tensor:  # (b, k)
        phis = [phi.T for group in self.model.first.phi for phi in group]
        psis = [psi.T for group in self.model.first.psi for psi in group]
        products = []
        for u, v, phi, psi in zip(self.u, self.v, phis, psis, strict=True):
            left, right = self.way(u, phi), self.way(v, psi)  # (b, c, r)
            scale = (u.shape[1] * v.shape[1]) ** 0.5 * self.model.feature_scale
            products.append((left @ right.mT * scale).flatten(1))
        out: Tensor = self.model.head(torch.cat(products, 1))
        return out

    def choose_fastest(self) -> None:
        """Keep the fastest way on this machine."""
        timed = []
        for name, way in self.WAYS:
            self.way = way
            self()
            timed.append((min(seconds(self) for _ in range(2)), name, way))
        _, self.name, self.way = min(timed, key=lambda entry: entry[0])


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def interleaved(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time each function once a round, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            spent = seconds(function)
            if number:
                times[name].append(spent)
    return times


def ratio(times: dict[str, list[float]], of: str, to: str) -> float:
    """Median over rounds of one time over another."""
    return median(a / b for a, b in zip(times[of], times[to], strict=True))


def training_step(model: GLNet, batch: LoRABatch) -> Callable[[], None]:
    optimiser = torch.optim.AdamW(model.parameters(), 1e-4)
    features = model.features(batch)

    def step() -> None:
        optimiser.zero_grad()
        model.score(features).square().mean().backward()
        optimiser.step()

    return step


def square(dtype: torch.dtype) -> Callable[[], Tensor]:
    """A square product: how fast the processor multiplies where nothing waits for memory."""
    one = torch.ones(1, SQUARE, SQUARE, dtype=dtype)
    return lambda: batched_matmul(one, one)


def flat(batch: LoRABatch) -> list[Tensor]:
    return [x.view(-1) for group in batch.groups for x in (group.u, group.v)]


def operations(signature: Signature) -> int:
    """Of the equivariant layer on the whole batch."""
    return 2 * BATCH * RANK * WIDTH * sum(layer.n + layer.m for layer in signature.layers)


def measure(dtype: torch.dtype, single: LoRABatch, rounds: int) -> None:
    """Print one block of the table."""
    signature = single.signature
    torch.manual_seed(0)
    plain = GLNet(signature, 1, rank=RANK, width=WIDTH, unit_norm=False, side=False)
    full = GLNet(signature, 1, rank=RANK, width=WIDTH).to(dtype)
    with torch.no_grad():
        loops = both_loops(plain, single)
        plain = copy.deepcopy(plain).to(dtype)
        batch = single.to(dtype=dtype)
        if dtype != torch.float32:
            loops |= both_loops(plain, batch)
        bare = {
            "read": lambda: [x.sum() for x in flat(single)],
            "own read": lambda: [x.sum() for x in flat(batch)],
            "square": square(dtype),
        }
        times = interleaved({**bare, "forward": lambda: plain(batch), **loops}, rounds)
        features = full.features(batch)
        beside = interleaved(
            {"features": lambda: full.features(batch), "score": lambda: full.score(features)}, 2
        )
    beside |= interleaved({"step": training_step(plain, batch)}, max(2, rounds // 3))
    report(dtype, loops, times, beside)
    report_count(operations(signature), batch.nbytes, times)
    report_targets(dtype, operations(signature), times)


def both_loops(model: GLNet, batch: LoRABatch) -> dict[str, Loop]:
    """The loop as it is written down first, on the (b, n, r) tensors as they are, and in its fastest way."""
    first, fastest = Loop(model, batch), Loop(model, batch)
    fastest.choose_fastest()
    return {f"{loop.name} {batch.dtype}": checked(loop, model, batch) for loop in (first, fastest)}


def checked(loop: Loop, model: GLNet, batch: LoRABatch) -> Loop:
    """The loop, its output compared with the model's."""
    gap = float((loop() - model(batch)).float().norm() / model(batch).float().norm())
    if gap > (1e-4 if batch.dtype == torch.float32 else 0.1):
        raise RuntimeError(f"the loop and the model differ by {gap:.2e}: nothing to compare")
    return loop


def report(
    dtype: torch.dtype,
    loops: dict[str, Loop],
    times: dict[str, list[float]],
    beside: dict[str, list[float]],
) -> None:
    """Print the lines of one type."""

    def line(label: str, values: list[float], note: str = "") -> None:
        spent = f"{median(values) * 1e3:8.1f} ms   (best {min(values) * 1e3:.1f})"
        print(f"  {label:46s} {spent}  {note}".rstrip())

    print(f"{dtype}".removeprefix("torch."))
    line("bare read of the float32 bytes", times["read"])
    read = ratio(times, "forward", "read")
    target = f", target <= {READ_AT_MOST:g}" if dtype == torch.float32 else ""
    line("GL-net forward", times["forward"], f"{read:.2f} x the read{target}")
    for name, loop in loops.items():
        gain, least = ratio(times, name, "forward"), LOOP_AT_LEAST[dtype]
        label = f"loop over layers, {name.split('torch.')[1]} ({loop.name})"
        line(label, times[name], f"{gain:.1f} x the forward, target >= {least:g}")
    line("training step (forward, backward, AdamW)", beside["step"])
    line("with unit norm and sizes: norms and spectra", beside["features"])
    line("with unit norm and sizes: forward on them", beside["score"])


def report_count(count: int, size: int, times: dict[str, list[float]]) -> None:
    """Print what no forward goes below, and how near this one comes."""
    product = count / (2 * SQUARE**3) * median(times["square"]) * 1e3
    read, best = median(times["own read"]) * 1e3, min(times["forward"]) * 1e3
    floor = max(product, read)
    print(
        f"  count: {count / 1e9:.2f} GFLOP take {product:.1f} ms at the rate of a square product here, "
        f"{size / 1e6:.0f} MB take {read:.1f} ms to read\n"
        f"         both at once {floor:.1f} ms, {floor / best:.0%} of the best forward; "
        f"one after the other {product + read:.1f} ms, {(product + read) / best:.0%} of it"
    )


def report_targets(dtype: torch.dtype, count: int, times: dict[str, list[float]]) -> None:
    """Print which targets are reached, and which the product alone forbids."""
    product = count / (2 * SQUARE**3)
    if dtype == torch.float32:
        found, floor = ratio(times, "forward", "read"), product * ratio(times, "square", "read")
        verdict = "reached" if found <= READ_AT_MOST else f"not reached, {found:.2f}"
        if floor > READ_AT_MOST and found > READ_AT_MOST:
            verdict += ", and the count forbids it"
        print(
            f"  target {READ_AT_MOST:g} x the read: {verdict}; the product alone is {floor:.2f} x"
        )
    loop = next(name for name in times if name.endswith("torch.float32"))
    gain, ceiling = ratio(times, loop, "forward"), ratio(times, loop, "square") / product
    verdict = "reached" if gain >= LOOP_AT_LEAST[dtype] else f"not reached, {gain:.2f}"
    print(
        f"  target {LOOP_AT_LEAST[dtype]:g} x faster than the float32 loop: {verdict}; "
        f"the product alone would be {ceiling:.1f} x"
    )


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args(arguments).rounds
    torch.set_num_threads(2)
    batch = random_batch(llama_signature())
    library = "oneDNN" if onednn_is_exact() else "MKL"
    print(
        f"GL-net, one equivariant layer of width {WIDTH}, on {BATCH} LoRAs of Llama-3.2-3B q and v, "
        f"rank {RANK}: {batch.nbytes / 1e6:.0f} MB in float32, 2 threads, float32 products by {library}"
    )
    for dtype in (torch.float32, torch.bfloat16):
        measure(dtype, batch, rounds)


if __name__ == "__main__":
    main()
