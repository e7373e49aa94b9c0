"""Train a faces base from the command line; progress goes to the log.

python -m lorascope.zoo.bases.faces first FOLDER [--work FOLDER]
python -m lorascope.zoo.bases.faces second FOLDER --first FOLDER
python -m lorascope.zoo.bases.faces control FOLDER --first FOLDER --seed 1
python -m lorascope.zoo.bases.faces samples FILE.png [--first FOLDER]
"""

import argparse
import logging
from pathlib import Path

from lorascope.zoo.bases.faces.folder import faces_folder, load_faces
from lorascope.zoo.bases.faces.make import make_control, make_first, make_second
from lorascope.zoo.bases.faces.prompts import PROMPTS
from lorascope.zoo.bases.faces.scores import generate
from lorascope.zoo.bases.faces.show import write_png

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Read the arguments, train, log the scores."""
    parser = argparse.ArgumentParser(description="Train a base of faces and objects.")
    parser.add_argument("which", choices=("first", "second", "control", "samples"))
    parser.add_argument("folder", type=Path, help="what is written")
    parser.add_argument("--first", type=Path, help="the first base; by default the bundled one")
    parser.add_argument("--work", type=Path, help="keep checkpoints here, and resume from them")
    parser.add_argument("--seed", type=int)
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if chosen.which == "samples":
        write_samples(chosen.folder, chosen.first or "faces")
        return
    seed = {"control": 1}.get(chosen.which, 0) if chosen.seed is None else chosen.seed
    options = {"seed": seed, "work": chosen.work, "progress": Log()}
    if chosen.which == "first":
        facts = make_first(chosen.folder, **options)
    else:
        make = make_second if chosen.which == "second" else make_control
        facts = make(chosen.folder, chosen.first or faces_folder(), **options)
    log.info("wrote %s, its own scores: %s", facts.folder, dict(facts.scores))


def write_samples(file: Path, base: str | Path) -> None:
    """The base's samples of the 33 prompts, eleven in a row."""
    write_png(file, generate(load_faces(base), list(PROMPTS), 0), 11)


class Log:
    """Progress as a line of the log every hundred steps, with the mean loss since the last."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def __call__(self, part: str, step: int, steps: int, loss: float) -> None:
        """Note the loss of a step."""
        self.losses.append(loss)
        if step % 100 == 0 or step == steps:
            mean = sum(self.losses) / len(self.losses)
            log.info("%s: step %d of %d, loss %.4f", part, step, steps, mean)
            self.losses.clear()


if __name__ == "__main__":
    main()
