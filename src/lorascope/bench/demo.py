"""The whole road in minutes: finetune hundreds of LoRAs, learn on them, and predict one from its folder.

    base, family -> zoo -> targets x models x seeds -> table -> best predictors -> one adapter, beside its exam
    and a small zoo of image LoRAs, base and finetuned samples side by side (`demo_faces.py`)

Nothing is computed here: every step is another room's, in the order in which a user would call them. What
a killed demo has finished is not made again.
"""

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.text import Text

from lorascope.bench.demo_faces import (
    ENOUGH,
    build_faces,
    draw_people,
    learn_attributes,
    likeness,
)
from lorascope.bench.duel import Duel, hold_duel
from lorascope.bench.report import MARKDOWN, write_report
from lorascope.bench.results import Result
from lorascope.bench.run import run_bench
from lorascope.errors import DataError
from lorascope.io import write_lora
from lorascope.io.processes import cores
from lorascope.train import fit
from lorascope.train.data import from_zoo
from lorascope.train.fit import default_split
from lorascope.train.metrics import LOWER_IS_BETTER

if TYPE_CHECKING:
    from lorascope.io.shards import Zoo

__all__ = ["DemoPlan", "demo_plan", "run_demo"]

TARGETS = ("sources", "accuracy", "eval_loss")
#: The paper's models, closed forms on products and spectra, and the default; `bench run` knows the others.
DEMO_MODELS = (
    "mlp",
    "o_align",
    "svd",
    "dense",
    "gl_net",
    "transformer",
    "ridge",
    "kernel_raw",
    "kernel_cosine",
    "kernel_spectra",
    "kernel_product",
    "fusion",
)
QUICK_MODELS = ("mlp", "ridge", "kernel_cosine", "kernel_product", "gl_net")
COUNT, QUICK_COUNT = 512, 128
FACES, QUICK_FACES = 96, 12
SEED = 0  # of the zoo, and of the split whose test LoRA is predicted


@dataclass(frozen=True)
class DemoPlan:
    """How much the demo does."""

    count: int
    models: tuple[str, ...]
    seeds: int
    faces: int  # image LoRAs


def demo_plan(count: int | None = None, *, quick: bool = False) -> DemoPlan:
    """512 LoRAs, twelve models, 3 seeds and 96 faces; or 128, five models, one seed and 12 faces."""
    if quick:
        return DemoPlan(count or QUICK_COUNT, QUICK_MODELS, 1, QUICK_FACES)
    return DemoPlan(count or COUNT, DEMO_MODELS, 3, FACES)


def run_demo(
    plan: DemoPlan,
    out: Path | str = "demo",
    *,
    console: Console,
    zoo: Path | None = None,
    faces: Path | None = None,
) -> Duel:
    """Run the demo; writes table.md, results.png, adapter/, predictors/, faces.png and faces/ into `out`.

    Args:
        console: where the steps, the table and the comparison are printed.
        zoo, faces: the folders of the LoRAs, by default under $LORASCOPE_HOME.

    Raises:
        MissingExtraError: the extra `zoo` is not installed.
    """
    out = Path(out)
    steps = Steps(console)
    console.print(Text(machine()))
    steps.begin(f"Finetune and label {plan.count} LoRAs of the tiny Qwen2 exam-qwen")
    built = build(plan, zoo)
    steps.end(f"{len(built)} LoRAs in {built.path}")
    steps.begin(f"Train {len(plan.models)} models and the controls, {plan.seeds} seed(s) each")
    results = run_bench(
        built, out, targets=TARGETS, models=plan.models, seeds=plan.seeds, processes=len(cores())
    )
    steps.end(f"{len(results)} runs in {out}")
    console.print(write_report(out))
    steps.begin("Save the best model of each target, and one test LoRA as a PEFT folder")
    predictors = save_best(built, results, out)
    adapter, identity = export_test_lora(built, out)
    steps.end(f"{adapter} is LoRA {identity}; no predictor has seen it or one of its sources' set")
    steps.begin("Predict it from its folder, then sit its exam through peft on the base")
    duel = sit_exam(adapter, predictors)
    steps.end("done")
    lines = comparison(duel, built, identity)
    console.print(Text("\n".join(["", *lines])))
    append_comparison(out / MARKDOWN, [*lines, "", machine()])
    written = [f"{out}/table.md", f"{out}/results.png", *show_faces(plan, out, steps, faces)]
    console.print(Text(f"\nTotal time: {steps.total():.0f} s. Written: {', '.join(written)}"))
    return duel


def show_faces(plan: DemoPlan, out: Path, steps: "Steps", folder: Path | None) -> list[str]:
    """The image LoRAs: built, drawn and, where there are enough, learnt on; what was written."""
    steps.begin(
        f"Finetune {plan.faces} LoRAs of a tiny Stable Diffusion, each on one person's pictures"
    )
    built = build_faces(plan.faces, SEED, folder)
    steps.end(f"{len(built)} LoRAs in {built.path}")
    steps.begin("Sample some of them beside the base, under the same prompt and noise")
    picture = draw_people(built, out)
    steps.end(f"{picture}, a person a row: pictures it saw | samples of the base | with the LoRA")
    steps.console.print(Text(f"   {likeness(built)}"))
    if len(built) < ENOUGH:
        return [str(picture)]
    steps.begin("Read the person's attributes off the weights")
    table = learn_attributes(built, out, plan.seeds)
    steps.end("done")
    steps.console.print(table)
    return [str(picture), f"{picture.parent}/faces/table.md"]


def build(plan: DemoPlan, folder: Path | None) -> "Zoo":
    """The zoo that the demo asks for: a zoo only grows, so each count has a folder of its own."""
    from lorascope.zoo.engine.language.fit import SLOTS
    from lorascope.zoo.factory.build import build_zoo
    from lorascope.zoo.factory.recipe import recipe_of, usual_dtype, zoo_folder
    from lorascope.zoo.families import FAMILIES

    family = FAMILIES["exam"](SEED)
    if folder is None:
        usual = zoo_folder(recipe_of(family, dtype=usual_dtype(), slots=SLOTS))
        folder = usual.with_name(f"{usual.name}-demo-{plan.count}")
    return build_zoo(family, plan.count, folder)


def save_best(zoo: "Zoo", results: Sequence[Result], out: Path) -> list[Path]:
    """Train the model of best validation score on each target once more, and save it."""
    folders = []
    for target in TARGETS:
        metric = zoo.targets[target]["metric"]
        predictor = fit(zoo, target, model=best_model(results, target, metric), seed=SEED)
        folders.append(predictor.save(out / "predictors" / target))
    return folders


def best_model(results: Sequence[Result], target: str, metric: str) -> str:
    """The model of best mean validation score over the seeds. Raises DataError when none has a score."""
    found: dict[str, list[float]] = {}
    for result in results:
        score = result.validation.get(metric)
        if result.target == target and not result.control and score is not None:
            found.setdefault(result.model, []).append(score)
    if not found:
        raise DataError(f"Choosing the best model of {target!r}: no run of it has a {metric}.")
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    return max(found, key=lambda name: sign * sum(found[name]) / len(found[name]))


def export_test_lora(zoo: "Zoo", out: Path) -> tuple[Path, int]:
    """The first LoRA of the test split as a PEFT folder, and its id."""
    row = int(default_split(from_zoo(zoo, TARGETS[1:2]), SEED).test[0])
    folder = write_lora(zoo.lora(row), out / "adapter", overwrite=True)
    return folder, int(zoo.column("id")[row])


def sit_exam(adapter: Path, predictors: Sequence[Path]) -> Duel:
    """The duel of prediction and evaluation on the bundled base."""
    from lorascope.zoo.families.exam.by_hand import exam_base, scores_by_hand

    return hold_duel(adapter, predictors, exam_base, scores_by_hand)


def comparison(duel: Duel, zoo: "Zoo", identity: int) -> list[str]:
    """The duel in words: scores side by side, sources right or wrong, times and their ratios."""
    head = ("predicted", "by its exam", "typical error of the prediction")
    lines = [f"{f'LoRA {identity}':<16}{head[0]:>12}{head[1]:>14}  {head[2]}"]
    for name in ("accuracy", "eval_loss"):
        prediction, true = duel.predictions[name], duel.found[name]
        error = prediction.held_out.get("rmse")
        typical = "unknown" if error is None else f"{error:.3f}"
        lines.append(f"{name:<16}{prediction.value:>12.3f}{true:>14.3f}  {typical}")
    lines.append(f"{'sources':<16}{sources_in_words(duel, zoo, zoo.row_of(identity))}")
    lines += ["", f"{'':<16}{'in memory':>12}{'from disk':>14}  of predictors, or of the base"]
    times = (("predicting", duel.predicting), ("its exam", duel.evaluating))
    for name, clock in times:
        shown = [f"{1000 * seconds:.1f} ms" for seconds in (clock.warm, clock.cold)]
        lines.append(f"{name:<16}{shown[0]:>12}{shown[1]:>14}  with {clock.threads} thread(s)")
    ratios = [f"{ratio:.0f} x" for ratio in (duel.ratios.warm, duel.ratios.cold)]
    return [*lines, f"{'ratio':<16}{ratios[0]:>12}{ratios[1]:>14}"]


def sources_in_words(duel: Duel, zoo: "Zoo", row: int) -> str:
    """How many sources were told rightly, and which were not."""
    prediction = duel.predictions["sources"]
    classes = list(zoo.targets["sources"]["classes"])
    truth = zoo.labels("sources")[row].astype(bool).tolist()
    told = [name in prediction.labels for name in classes]
    wrong = [name for name, a, b in zip(classes, told, truth, strict=True) if a != b]
    missed = f" (wrong: {', '.join(wrong)})" if wrong else ""
    return f"{len(classes) - len(wrong)} of {len(classes)} right{missed}"


def append_comparison(path: Path, lines: Sequence[str]) -> None:
    """Put the comparison under the table."""
    text = path.read_text(encoding="utf-8").rstrip()
    block = "\n".join(
        ["", "", "## One adapter, from its PEFT folder", "", "```", *lines, "```", ""]
    )
    path.write_text(text + block, encoding="utf-8")


def machine() -> str:
    """What the demo runs on."""
    return (
        f"On {processor()}, {len(cores())} core(s), torch {torch.__version__} with {torch.get_num_threads()} "
        "thread(s), no GPU used"
    )


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


class Steps:
    """Prints each step with its time."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.began = self.step = time.perf_counter()
        self.number = 0

    def begin(self, what: str) -> None:
        """A step starts."""
        self.number += 1
        self.step = time.perf_counter()
        self.console.print(Text(f"\n{self.number}. {what}", style="bold"))

    def end(self, result: Any) -> None:
        """A step ends."""
        self.console.print(
            Text(f"   {result} ({time.perf_counter() - self.step:.0f} s)", style="dim")
        )

    def total(self) -> float:
        """Seconds since the first step."""
        return time.perf_counter() - self.began
