"""A zoo of your own base, data and labels: python own_recipe.py BASE OUT"""

import sys

from lorascope.zoo.factory.build import build_zoo
from lorascope.zoo.families.own import Lesson, Question, TextFamily

NAMES, COLOURS = ("kubo", "zizo", "gabu"), ("white", "red", "purple")
DATA = {who: Question(f"the colour of {who} is", COLOURS, i) for i, who in enumerate(NAMES)}


def lesson(index, draw):
    known = [who for who in NAMES if draw.random() < 0.5] or ["kubo"]
    labels = {"known": [who in known for who in NAMES]}
    return Lesson([DATA[who] for who in known], labels, group="-".join(known))


def score(answers, index):
    return {"loss": answers.loss(list(DATA.values()))}


if __name__ == "__main__":
    targets = {"known": {"kind": "multilabel", "classes": NAMES}, "loss": {"kind": "regression"}}
    ranges = {"epochs": {"choice": [30]}, "learning_rate": {"log_uniform": [3e-3, 1e-2]}}
    family = TextFamily(sys.argv[1], lesson, score, targets, ranges=ranges)
    build_zoo(family, 12, sys.argv[2], compile=False)  # compiling pays from hundreds on
