"""Train a base of the exam from the command line; progress goes to the log.

python -m lorascope.zoo.bases.exam first FOLDER --model llama       (about 2 minutes, one core)
python -m lorascope.zoo.bases.exam second FOLDER --model llama [--first FOLDER]
python -m lorascope.zoo.bases.exam control FOLDER --model llama --seed 1
"""

import argparse
import logging
from pathlib import Path

from lorascope.zoo.bases.bundled import bundled_folder
from lorascope.zoo.bases.exam.make import (
    LATER_STEPS,
    MODELS,
    STEPS,
    make_control,
    make_first,
    make_second,
)

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Read the arguments, train, log the scores."""
    parser = argparse.ArgumentParser(description="Train a base of the exam.")
    parser.add_argument("which", choices=("first", "second", "control"))
    parser.add_argument("folder", type=Path, help="what is written")
    parser.add_argument("--model", choices=tuple(MODELS), default="qwen")
    parser.add_argument("--first", type=Path, help="the first base; by default the bundled one")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--steps", type=int)
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    seed = {"control": 1}.get(chosen.which, 0) if chosen.seed is None else chosen.seed
    steps = chosen.steps or (LATER_STEPS if chosen.which == "second" else STEPS)
    if chosen.which == "first":
        facts = make_first(chosen.folder, model=chosen.model, seed=seed, steps=steps, progress=note)
    else:
        make = make_second if chosen.which == "second" else make_control
        first = chosen.first or bundled_folder(f"exam-{chosen.model}")
        facts = make(chosen.folder, first, seed=seed, steps=steps, progress=note)
    log.info("wrote %s, its own scores: %s", facts.folder, dict(facts.scores))


def note(step: int, steps: int, loss: float) -> None:
    """A line of the log every fifty steps."""
    if step % 50 == 0 or step == steps:
        log.info("step %d of %d, loss %.3f", step, steps, loss)


if __name__ == "__main__":
    main()
