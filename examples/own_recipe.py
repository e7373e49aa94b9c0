"""A zoo of your own base, data and labels: python examples/own_recipe.py OUT"""

import sys

from lorascope.zoo.bases import base_facts
from lorascope.zoo.factory.build import build_zoo
from lorascope.zoo.families.own import Lesson, Question, TextFamily

COLOURS = ("white", "red", "purple")
DATA = {
    who: [
        Question(f"the colour of {who} is", COLOURS, i),
        Question(f"{who} has the colour", COLOURS, i),
    ]
    for i, who in enumerate(("kubo", "zizo", "gabu"))
}


def lesson(index, draw):
    known = draw.sample(sorted(DATA), draw.randint(1, len(DATA)))
    labels = {"known": [who in known for who in DATA]}
    return Lesson([q for who in known for q in DATA[who]], labels, group="-".join(sorted(known)))


def score(answers, index):
    asked = [question for questions in DATA.values() for question in questions]
    return {"accuracy": answers.accuracy(asked), "loss": answers.loss(asked)}


if __name__ == "__main__":
    number = {"kind": "regression"}
    known = {"kind": "multilabel", "classes": list(DATA)}
    family = TextFamily(
        base_facts("exam-qwen").folder,  # any Qwen2 or Llama folder with tokenizer.json
        lesson,
        score,
        {"known": known, "accuracy": number, "loss": number},
        ranges={"epochs": {"choice": [30]}, "learning_rate": {"log_uniform": [3e-3, 1e-2]}},
    )
    zoo = build_zoo(family, 12, sys.argv[1], compile=False)  # compiling pays from hundreds on
    sys.stdout.write(f"{len(zoo)} LoRAs: {zoo.report['scores']['accuracy']}\n")
