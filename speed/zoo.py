"""Labelled LoRAs a minute: a zoo built on all cores, against PEFT one by one.

Both finetune and label the same LoRAs of the exam family (tiny Qwen2, rank 4, k and v). PEFT has the
base loaded once, the adapter re-used, the fused AdamW, and asks all questions in one batch; it
runs as one process with two threads and as two with one, in float32 and under bfloat16 autocast,
with the faster attention of each; the fastest counts, as the mean of before and after the build. Its
seconds are those that its processes work: that one waits for the other's last LoRA is not counted. The
build includes starting its processes, loading, writing shards and the index; compiled kernels come from
the cache, as in every zoo but the first, and the first is timed apart.

On a GPU both have one process, and kernels are torch's own. Images: `zoo_images.py`; bases of real
shapes: `zoo_shapes.py`.

    python -m speed.zoo [--family faces] [--count 512] [--alone 12] [--device cuda]
"""

import argparse
import functools
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lorascope.zoo.engine.language.alone import adapt, train_alone
from lorascope.zoo.engine.language.engine import LanguageEngine
from lorascope.zoo.engine.language.evaluate import choice_log_likelihoods
from lorascope.zoo.engine.language.fit import fit_adapters
from lorascope.zoo.engine.language.jobs import ChoiceSet, FitJob
from lorascope.zoo.engine.language.packing import real_lengths
from lorascope.zoo.engine.peft_model import device_of
from lorascope.zoo.factory.build import build_zoo, usable
from lorascope.zoo.factory.family import shape_of
from lorascope.zoo.factory.pool import Failure, cores, run_tasks
from lorascope.zoo.factory.recipe import usual_dtype
from lorascope.zoo.families import FAMILIES
from lorascope.zoo.families.exam import ExamFamily
from lorascope.zoo.families.exam.scores import exam_scores, questions
from speed.zoo_images import flops_of, matrix_peak, start_image_alone

RATIO, RATE = 4.0, 200.0


def plain_labels(model: Any, autocast: bool) -> tuple[float, float]:
    """Accuracy over all questions and mean loss of the truth, one batch through PEFT."""
    asked, device = questions(), device_of(model)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        logits = model(input_ids=asked.prefixes.to(device), use_cache=False).logits
        places = torch.arange(len(asked)), asked.prefix_lengths - 1
        last = logits[places].float().log_softmax(-1).cpu()
        scores: Tensor = last.gather(1, asked.options[..., 0])
    truth = scores.gather(1, asked.answers[:, None])
    return float((scores.argmax(1) == asked.answers).float().mean()), -float(truth.mean())


def start_alone(
    family: ExamFamily, autocast: bool, attention: str, device: str = "cpu"
) -> Callable[[Any], tuple[float, float]]:
    """A worker that does one job after another with PEFT."""
    from transformers import AutoModelForCausalLM

    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")
    base = AutoModelForCausalLM.from_pretrained(
        family.base_folder, dtype=torch.float32, attn_implementation=attention
    )
    model = adapt(base.to(device).requires_grad_(False), family.spec)

    def work(index: int) -> tuple[float, float]:
        train_alone(model, family.spec, family.job(index), masks=False, autocast=autocast)
        return plain_labels(model, autocast)

    return work


def timed(begin: Callable[..., Callable[[Any], Any]], *arguments: Any) -> Callable[[Any], float]:
    """The same worker, which tells the seconds of each task."""
    work = begin(*arguments)

    def seconds(task: Any) -> float:
        began = time.perf_counter()
        work(task)
        return time.perf_counter() - began

    return seconds


def alone_rate(
    family: Any, indices: list[int], processes: int, autocast: bool, attention: str, device: str
) -> float:
    """LoRAs a minute of PEFT; starting, loading and each worker's first job are not counted."""
    begin = start_alone if isinstance(family, ExamFamily) else start_image_alone
    start = functools.partial(timed, begin, family, autocast, attention, device)
    warm = max(1, processes)
    longest_first = sorted(indices, key=lambda index: -work_of(family, index))
    seconds = []
    for _, result in run_tasks([indices[0]] * warm + longest_first, start, processes):
        if isinstance(result, Failure):
            raise SystemExit(result.message)
        seconds.append(result)
    return warm * len(indices) / sum(seconds[warm:]) * 60


def typical(family: Any, count: int, some: int) -> list[int]:
    """Indices that stand for all: evenly spaced in the order of their steps."""
    order = sorted(range(count), key=lambda i: work_of(family, i))
    return [order[int((k + 0.5) * count / some)] for k in range(some)]


def work_of(family: Any, index: int) -> int:
    """Rows that a LoRA is finetuned on, one after another."""
    shape = shape_of(family, index)
    return shape.steps * shape.batch_size


def build_seconds(family: Any, count: int, device: str) -> float:
    """Seconds of building a whole zoo."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        build_zoo(family, count, Path(folder) / "zoo", device=device, progress=False)
        return time.perf_counter() - began


def word_flops_of(family: ExamFamily, indices: list[int]) -> tuple[float, float]:
    """Floating-point operations of a LoRA of words on average: training, and labels."""
    base = LanguageEngine().load(family.base_folder, torch.float32, False)
    jobs = [family.job(i) for i in indices]
    epochs = [replace(job, epochs=1) for job in jobs]
    counts = [operations(lambda job=job: fit_adapters(base, family.spec, [job])) for job in epochs]
    training = sum(count * job.epochs for count, job in zip(counts, jobs, strict=True))
    return training / len(jobs), operations(lambda: exam_scores(base, family.spec, None))


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations of a call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def padded_shares(family: ExamFamily, indices: list[int]) -> tuple[float, float]:
    """The share of operations that padding costs, in training and for labels.

    Without padding: the same rows, those of each length by themselves and no longer than they are. Lanes of
    a group that wait for its longest job count as padding.
    """
    base, spec = LanguageEngine().load(family.base_folder, torch.float32, False), family.spec
    jobs = [replace(family.job(i), epochs=1) for i in indices]
    parts = [part for job in jobs for part in job_by_length(job)]
    needed, whole = (
        operations(lambda each=each: fit_adapters(base, spec, each)) for each in (parts, jobs)
    )
    asked = questions()
    sets = choices_by_length(asked)
    bare, full = (
        sum(operations(lambda e=e: choice_log_likelihoods(base, spec, None, e)) for e in each)
        for each in (sets, [asked])
    )
    return 1 - needed / whole, 1 - bare / full


def job_by_length(job: FitJob) -> list[FitJob]:
    """The rows of each length as one batch without padding."""
    lengths, parts = real_lengths(job.weights), []
    for length in lengths.unique().tolist():
        rows = lengths == length
        tokens, weights = (part[rows, : length + 1] for part in (job.tokens, job.weights))
        parts.append(replace(job, tokens=tokens, weights=weights, batch_size=len(tokens)))
    return parts


def choices_by_length(asked: ChoiceSet) -> list[ChoiceSet]:
    """The questions of each length of prefix without padding."""
    sets = []
    for length in asked.prefix_lengths.unique().tolist():
        rows = asked.prefix_lengths == length
        fields = {name: getattr(asked, name)[rows] for name in asked.__dataclass_fields__}
        sets.append(ChoiceSet(**{**fields, "prefixes": fields["prefixes"][:, :length]}))
    return sets


def show_share(family: Any, indices: list[int], rate: float, device: str) -> None:
    """The share of the device's matrix peak that a rate of LoRAs a minute is, and of words that of padding."""
    count = word_flops_of if isinstance(family, ExamFamily) else flops_of
    training, labels = count(family, indices)
    peak = matrix_peak(usual_dtype(device), device)
    peak *= len(cores()) if torch.device(device).type == "cpu" else 1
    print(f"a LoRA: {training / 1e9:.3g} GFLOP of training, {labels / 1e9:.3g} of labels")
    if isinstance(family, ExamFamily):
        print(
            "for padding: {:.1%} of training, {:.1%} of labels".format(
                *padded_shares(family, indices)
            )
        )
    print(
        f"share of the matrix peak of {peak / 1e9:.0f} GFLOP/s: {(training + labels) * rate / 60 / peak:.2f}"
    )


def main(arguments: list[str] | None = None) -> None:
    """Print the table and the ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--family", choices=sorted(FAMILIES), default="exam")
    parser.add_argument("--count", type=int, default=512, help="LoRAs of the zoo")
    parser.add_argument("--alone", type=int, default=12, help="of them, done by PEFT in each way")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    options = parser.parse_args(arguments)
    device = str(usable(options.device))
    torch.set_num_threads(2)
    family = FAMILIES[options.family](1)
    indices = typical(family, options.count, options.alone)
    steps = [work_of(family, i) for i in range(options.count)]
    some = [work_of(family, i) for i in indices]
    print(
        f"mean rows of finetuning: {sum(steps) / len(steps):.1f} of all, {sum(some) / len(some):.1f} for PEFT"
    )
    first = build_seconds(family, 64, device)
    print(f"first zoo of 64 LoRAs, kernels compiled if the cache has none: {first:.0f} s")
    rates: dict[tuple[int, bool, str], float] = {}
    layouts = ((0, "1 process, 2 threads"), (2, "2 processes, 1 thread"))
    for processes, layout in layouts if device == "cpu" else ((0, f"1 process on {device}"),):
        for autocast, precision in ((False, "float32"), (True, "bfloat16 autocast")):
            ways = [(processes, autocast, attention) for attention in ("eager", "sdpa")]
            rates |= {way: alone_rate(family, indices, *way, device) for way in ways}
            rate = max(rates[way] for way in ways)
            print(f"PEFT alone, {layout}, {precision}: {rate:.0f} a minute", flush=True)
    way = max(rates, key=lambda way: rates[way])
    seconds = build_seconds(family, options.count, device)
    rate = options.count / seconds * 60
    after = alone_rate(family, indices, *way, device)
    print(
        f"PEFT alone, the fastest of these, before and after: {rates[way]:.1f}, {after:.1f} a minute"
    )
    best = (rates[way] + after) / 2
    show_share(family, indices, rate, device)
    print(f"lorascope, {options.count} LoRAs in {seconds:.1f} s: {rate:.0f} a minute")
    least = RATE if options.family == "exam" else 0.0
    verdict = "reached" if rate >= least and rate >= RATIO * best else "MISSED"
    print(f"ratio: {rate / best:.1f} (at least {RATIO:.0f}, and {least:.0f} a minute): {verdict}")


if __name__ == "__main__":
    main()
