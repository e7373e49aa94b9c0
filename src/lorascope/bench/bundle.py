"""The predictors and the sample LoRA that the package brings, made from an exam zoo.

    lorascope zoo collection exam-qwen
    python -m lorascope.bench.bundle ZOO

They are the default model with fewer directions, landmarks and hints than it takes by itself, so that the
package stays small. The sample is a test LoRA: no bundled predictor has seen it. What this writes is committed,
so that a fresh installation answers at once.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lorascope
from lorascope.errors import DataError
from lorascope.io import Zoo, open_zoo, write_lora
from lorascope.train.data import from_zoo
from lorascope.train.fit import default_split, fit_many

__all__ = ["bundle", "main"]

TARGETS = ("sources", "accuracy", "eval_loss")
DIALS: Mapping[str, Any] = {"width": 16, "landmarks": 200, "components": 32, "hints": 12}
SEED = 0
MAX_BYTES = 5_000_000


def bundle(zoo: Zoo, out: Path, *, targets: Sequence[str] = TARGETS) -> list[Path]:
    """Write predictors/TARGET and sample/exam-lora below a folder; returns the folders.

    Raises:
        DataError: together they are larger than the package affords.
    """
    # the data's place on one machine must not travel with the package
    name = f"{zoo.recipe.get('family', 'imported')} zoo of {len(zoo)} LoRAs, seed {zoo.recipe.get('seed')}"
    data = replace(from_zoo(zoo), source=name)
    predictors = fit_many(data, targets, seed=SEED, trust=True, **DIALS)
    folders = [found.save(out / "predictors" / target) for target, found in predictors.items()]
    row = int(default_split(data, SEED).test[0])
    folders.append(write_lora(zoo.lora(row), out / "sample" / "exam-lora", overwrite=True))
    size = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
    if size > MAX_BYTES:
        raise DataError(
            f"Bundling {[folder.name for folder in folders]}: they take {size:,} bytes together, expected at "
            f"most {MAX_BYTES:,}. Try: a narrower model."
        )
    return folders


def main(arguments: Sequence[str]) -> None:
    """Bundle from the zoo whose folder is the one argument, into the package's data."""
    (zoo,) = arguments
    data = Path(lorascope.__file__).parent / "data"
    for folder in bundle(open_zoo(zoo), data):
        sys.stdout.write(f"{folder}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
