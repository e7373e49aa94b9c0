"""Adapters by other methods than LoRA that read as ordinary pairs, finetuned on a base of the exam one by one.

    LoRA by PEFT       the same script without another method: what should pass
    LoKr, LoHa         PEFT's, of the zoo's rank; read from their folders, whose pairs have a higher rank
    full finetuning    W' - W of the same layers, and no factors at all
    ..., old rank      the best updates of the zoo's rank: what an SVD stores

Sources, order of data, epochs, batch size, weight decay and learning rate are drawn as those of the exam's
LoRAs (by a seed that no zoo has): draws that stand for many, the same for each method. A method's learning rate
is LoRA's times a factor with which its updates are about as large as LoRAs': what is told should not be told by
size. Adapters are kept as PEFT folders, so that a run that was stopped goes on. What it is not: the zoo's
engine, which knows LoRA alone.
"""

import copy
import functools
import hashlib
import json
import shutil
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lorascope.core.batch import LoRABatch, collate
from lorascope.core.lora import LoRA, Provenance
from lorascope.core.low_rank import LowRank
from lorascope.core.signature import Signature
from lorascope.errors import MissingExtraError, TrainingError
from lorascope.io.processes import cores
from lorascope.io.read import read_lora
from lorascope.io.write import write_lora
from lorascope.zoo.bases.bundled import BASES, base_facts, load_base
from lorascope.zoo.bases.quiet import quiet_loading
from lorascope.zoo.engine.draws import data_order
from lorascope.zoo.engine.language.alone import sequence_loss
from lorascope.zoo.engine.language.jobs import FitJob
from lorascope.zoo.factory.pool import Failure, run_tasks
from lorascope.zoo.families.exam import ExamFamily
from lorascope.zoo.families.exam.family import SPEC

__all__ = [
    "BASES",
    "BY_PEFT",
    "OTHER_METHODS",
    "adapters",
    "finetuned",
    "kinds_of",
    "peft_version",
    "typical",
]

COUNT = 36  # adapters of a method
DRAWN = 10  # times as many, of which these are taken
SEED = 101  # of their draws; those of the collection are small
BY_PEFT, LOKR, LOHA, FULL = "LoRA by PEFT", "LoKr", "LoHa", "full finetuning"
#: Method -> its learning rate against LoRA's.
RATES = {BY_PEFT: 1.0, LOKR: 1.2, LOHA: 2.6, FULL: 0.45}
OLD_RANK = ", old rank"
#: The kinds that should be told from LoRAs.
OTHER_METHODS = (LOKR, LOKR + OLD_RANK, LOHA, LOHA + OLD_RANK, FULL + OLD_RANK)

Note = Callable[[str], None]


def peft_version() -> str | None:
    """The version of peft, None where it is not installed."""
    try:
        return version("peft")
    except PackageNotFoundError:
        return None


def adapters(
    base: str,
    signature: Signature,
    rank: int,
    folder: Path,
    *,
    count: int = COUNT,
    processes: int | None = None,
    note: Note | None = None,
) -> dict[str, LoRABatch]:
    """Adapters of a bundled base by every kind, finetuned where they are not in the folder yet.

    Raises MissingExtraError where peft is not installed, TrainingError where one cannot be finetuned.

    >>> adapters("exam-qwen", signature, 4, Path("kept"))["LoKr"].rank  # doctest: +SKIP
    24
    """
    if peft_version() is None:
        raise MissingExtraError("peft", "zoo", "finetuning adapters by other methods than LoRA")
    place = folder / f"{base}-{_key(base, signature, rank)}"
    draws = typical(ExamFamily(seed=SEED, base=base), count)
    tasks = [(method, index) for index in draws for method in RATES]
    missing = [task for task in tasks if not _folder(place, *task).is_dir()]
    if missing:
        if note is not None:
            note(f"{base}: finetuning {len(missing)} adapters by {', '.join(RATES)}")
        start = functools.partial(_start, base, tuple(signature.names), rank, place)
        if processes is None:
            processes = len(cores())
        for task, result in run_tasks(missing, start, processes):
            if isinstance(result, Failure):
                raise TrainingError(
                    f"Finetuning {base} by {task[0]}, adapter {task[1]}: {result.message}. Try: the same "
                    "command again, which goes on where it stopped."
                )
    loras = {m: [read_lora(_folder(place, m, index)) for index in draws] for m in RATES}
    return kinds_of(loras, signature, rank)


def typical(family: ExamFamily, count: int) -> list[int]:
    """Draws that stand for all: evenly spaced in the order of steps times learning rate, which sizes go by."""
    jobs = [family.job(index) for index in range(DRAWN * count)]
    order = sorted(range(len(jobs)), key=lambda i: jobs[i].steps * jobs[i].learning_rate)
    return [order[DRAWN * place + DRAWN // 2] for place in range(count)]


def kinds_of(loras: dict[str, list[LoRA]], signature: Signature, rank: int) -> dict[str, LoRABatch]:
    """What is asked about: adapters as they read, and their best updates of the old rank."""
    found = {}
    for method, some in loras.items():
        if method != FULL:
            found[method] = collate(some, signature, dtype=torch.float32)
        if method != BY_PEFT:
            cut = [lora.truncate(rank).lora for lora in some]
            found[method + OLD_RANK] = collate(cut, signature, dtype=torch.float32)
    return found


def finetuned(
    base: Any, method: str, names: tuple[str, ...], rank: int, job: FitJob, folder: Path
) -> None:
    """One adapter of a frozen transformers model, which is not changed, in a PEFT folder of its own."""
    model = copy.deepcopy(base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        if method == FULL:
            layers = {name: model.get_submodule(name) for name in names}
            before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
            _train(model, [x.weight.requires_grad_() for x in layers.values()], job, RATES[FULL])
            changed = {
                name: _pair(layer.weight.detach() - before[name]) for name, layer in layers.items()
            }
            write_lora(LoRA(changed, {}, Provenance(base=str(base.name_or_path))), folder)
            return
        adapted = _adapted(model, _config(method, names, rank, job.dropout))
        trained = [p for p in adapted.parameters() if p.requires_grad]
        _train(adapted, trained, job, RATES[method])
        adapted.save_pretrained(str(folder))


def _adapted(model: nn.Module, config: Any) -> Any:
    """The model with PEFT's adapter in it."""
    from peft import get_peft_model

    with warnings.catch_warnings():
        # peft asks transformers 5 for a property by its old name
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        return get_peft_model(model, config)


def _config(method: str, names: tuple[str, ...], rank: int, dropout: float) -> Any:
    """PEFT's configuration of a method, at the factor that the exam's LoRAs have."""
    from peft import LoHaConfig, LoKrConfig, LoraConfig

    alpha, targets = SPEC.factor * rank, list(names)
    if method == BY_PEFT:
        return LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, lora_dropout=dropout)
    kind = {LOKR: LoKrConfig, LOHA: LoHaConfig}[method]
    return kind(r=rank, alpha=alpha, target_modules=targets)


def _train(model: Any, trained: list[Any], job: FitJob, rate: float) -> None:
    """AdamW, a learning rate that falls linearly, clipped gradients: as the exam's LoRAs."""
    from transformers import get_linear_schedule_with_warmup

    optimiser = torch.optim.AdamW(
        trained, lr=rate * job.learning_rate, weight_decay=job.weight_decay
    )
    schedule = get_linear_schedule_with_warmup(optimiser, job.warmup, job.steps)
    model.train()
    for rows in data_order(job.seed, len(job.tokens), job.epochs, job.batch_size):
        rows = rows[rows >= 0]
        sequence_loss(model, job.tokens[rows], job.weights[rows]).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, job.clip_norm)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
    model.eval()


def _pair(change: torch.Tensor) -> LowRank:
    """A matrix as a pair of full rank."""
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    return LowRank(u * s, v.mT.contiguous())


def _start(
    base: str, names: tuple[str, ...], rank: int, place: Path
) -> Callable[[tuple[str, int]], str]:
    """A worker that finetunes one adapter after another, and tells each one's folder."""
    with quiet_loading():
        model = load_base(base)
    family = ExamFamily(seed=SEED, base=base)

    def work(task: tuple[str, int]) -> str:
        method, index = task
        folder = _folder(place, method, index)
        staged = folder.with_name(f".{folder.name}")
        shutil.rmtree(staged, ignore_errors=True)  # what a stop has left
        staged.parent.mkdir(parents=True, exist_ok=True)
        finetuned(model, method, names, rank, family.job(index), staged)
        staged.replace(folder)
        return str(folder)  # a worker's answer of None stands for its death

    return work


def _folder(place: Path, method: str, index: int) -> Path:
    return place / method.replace(" ", "-") / f"{index:03d}"


def _key(base: str, signature: Signature, rank: int) -> str:
    """What names the folder of adapters: all that they depend on but their number."""
    facts = {
        "base": base_facts(base).sha256,
        "layers": list(signature.names),
        "rank": rank,
        "rates": RATES,
        "seed": SEED,
        "versions": [torch.__version__, peft_version()],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
