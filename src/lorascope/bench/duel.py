"""One adapter from its PEFT folder: what predictors say of it beside its true evaluation, both timed.

Two clocks, because a keeper of many LoRAs loads a predictor or a base once, and a visitor loads it each time:

    warm   from the adapter's files to the answer, predictors (or base) already in memory
    cold   predictors (or base) read from disk too; the libraries are imported in both

A prediction answers all targets; the evaluation runs every question of the exam through the base. Each is
timed on one thread and on all, and the faster counts: small products lose more by sharing than they gain.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lorascope.io import read_lora
from lorascope.predict import Prediction, load_predictor

__all__ = ["Duel", "Times", "hold_duel"]

PREDICTIONS = 15  # repetitions; the median counts
EVALUATIONS = 5


@dataclass(frozen=True)
class Times:
    """Median seconds of one way to an answer, and the threads that it was fastest with."""

    warm: float
    cold: float
    threads: int = 1


@dataclass(frozen=True)
class Duel:
    """What was predicted and what the evaluation found, with the times of both."""

    adapter: Path
    predictions: Mapping[str, Prediction]
    found: Mapping[str, float]
    predicting: Times
    evaluating: Times

    @property
    def ratios(self) -> Times:
        """How many times longer the evaluation takes."""
        return Times(
            self.evaluating.warm / self.predicting.warm,
            self.evaluating.cold / self.predicting.cold,
        )


def hold_duel(
    adapter: Path,
    predictors: Sequence[Path],
    load_base: Callable[[], Any],
    evaluate: Callable[[Any, Path], Mapping[str, float]],
) -> Duel:
    """Predict one adapter and evaluate it, several times each.

    Args:
        adapter: its PEFT folder.
        predictors: folders of the predictors that are asked.
        load_base: gives the base model, read from disk anew.
        evaluate: from base and adapter to the true scores, by target.
    """
    loaded = [load_predictor(folder) for folder in predictors]
    base = load_base()

    def predict() -> list[Prediction]:
        lora = read_lora(adapter)
        return [predictor.predict(lora)[0] for predictor in loaded]

    def predict_cold() -> list[Prediction]:
        lora = read_lora(adapter)
        return [load_predictor(folder).predict(lora)[0] for folder in predictors]

    predicting = fastest(predict, predict_cold, PREDICTIONS)
    evaluating = fastest(
        lambda: evaluate(base, adapter), lambda: evaluate(load_base(), adapter), EVALUATIONS
    )
    answers = {prediction.target.name: prediction for prediction in predict()}
    return Duel(adapter, answers, dict(evaluate(base, adapter)), predicting, evaluating)


def fastest(warm: Callable[[], object], cold: Callable[[], object], times: int) -> Times:
    """The times with the number of threads, one or all, that is faster warm; the setting is put back."""
    before = torch.get_num_threads()
    found = []
    try:
        for threads in sorted({1, before}):
            torch.set_num_threads(threads)
            found.append(Times(median_seconds(warm, times), median_seconds(cold, times), threads))
    finally:
        torch.set_num_threads(before)
    return min(found, key=lambda clock: clock.warm)


def median_seconds(work: Callable[[], object], times: int = PREDICTIONS) -> float:
    """The median time of a call, after one that is not counted."""
    work()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
