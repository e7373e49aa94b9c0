"""The predictors and the sample LoRA that the package brings, made from an exam zoo.

    lorascope zoo build exam --count 2048 --out ZOO
    python -m lorascope.bench.bundle ZOO

Only models whose folder does not grow with the training set are tried; the best validation score is taken.
The sample is a test LoRA: no bundled predictor has seen it. What this writes is committed, so that a fresh
installation answers at once.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import lorascope
from lorascope.errors import DataError
from lorascope.io import Zoo, open_zoo, write_lora
from lorascope.predict import Predictor
from lorascope.train import fit
from lorascope.train.data import LabelledLoRAs, from_zoo
from lorascope.train.fit import default_split
from lorascope.train.metrics import better

__all__ = ["bundle", "main"]

TARGETS = ("sources", "accuracy", "eval_loss")
MODELS = ("gl_net", "ridge")
SEED = 0
MAX_BYTES = 2_000_000


def bundle(zoo: Zoo, out: Path, *, targets: Sequence[str] = TARGETS) -> list[Path]:
    """Write predictors/TARGET and sample/exam-lora below a folder; returns the folders.

    Raises:
        DataError: together they are larger than the package affords.
    """
    # the data's place on one machine must not travel with the package
    name = f"{zoo.recipe.get('family', 'imported')} zoo of {len(zoo)} LoRAs, seed {zoo.recipe.get('seed')}"
    data = replace(from_zoo(zoo, targets), source=name)
    folders = [best(data, target).save(out / "predictors" / target) for target in targets]
    row = int(default_split(data, SEED).test[0])
    folders.append(write_lora(zoo.lora(row), out / "sample" / "exam-lora", overwrite=True))
    size = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
    if size > MAX_BYTES:
        raise DataError(
            f"Bundling {[folder.name for folder in folders]}: they take {size:,} bytes together, expected at "
            f"most {MAX_BYTES:,}. Try: a narrower model."
        )
    return folders


def best(data: LabelledLoRAs, target: str) -> Predictor:
    """The predictor of best validation score among the models that stay small."""
    metric = data.target(target).metric
    found: Predictor | None = None
    score = float("nan")
    for model in MODELS:
        predictor = fit(data, target, model=model, seed=SEED)
        reached = predictor.report["metrics"]["validation"].get(metric)
        if found is None or (reached is not None and better(metric, reached, score)):
            found, score = predictor, float("nan") if reached is None else reached
    if found is None:
        raise DataError(f"Bundling a predictor of {target!r}: there is no model to try.")
    return found


def main(arguments: Sequence[str]) -> None:
    """Bundle from the zoo whose folder is the one argument, into the package's data."""
    (zoo,) = arguments
    data = Path(lorascope.__file__).parent / "data"
    for folder in bundle(open_zoo(zoo), data):
        sys.stdout.write(f"{folder}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
