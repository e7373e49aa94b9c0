import time

import pytest
import torch

from lorascope.bench.duel import (
    EVALUATIONS,
    PREDICTIONS,
    Duel,
    Times,
    fastest,
    hold_duel,
    median_seconds,
)
from lorascope.core import LoRA, LowRank
from lorascope.io import read_lora, write_lora
from lorascope.models import build_model
from lorascope.predict import Predictor, Target, load_predictor


@pytest.fixture
def adapter(tmp_path):
    draw = torch.Generator().manual_seed(0)
    layers = {
        f"layers.{i}.q": LowRank(
            torch.randn(6, 2, generator=draw), torch.randn(5, 2, generator=draw)
        )
        for i in range(2)
    }
    return write_lora(LoRA(layers), tmp_path / "adapter", base="tiny")


@pytest.fixture
def predictor(tmp_path, adapter):
    model = build_model("mlp", read_lora(adapter).signature(), 1, rank=2, seed=0)
    return Predictor(model.eval(), Target("score", "regression")).save(tmp_path / "predictor")


def test_a_duel_predicts_evaluates_and_times_both(adapter, predictor):
    loads, asked = [], []

    def load_base():
        loads.append(1)
        return "base"

    def evaluate(base, folder):
        asked.append((base, folder))
        time.sleep(0.01)
        return {"score": 0.5}

    duel = hold_duel(adapter, [predictor], load_base, evaluate)
    assert duel.found == {"score": 0.5}
    expected = load_predictor(predictor).predict(read_lora(adapter))[0]
    assert duel.predictions["score"] == expected
    assert set(asked) == {("base", adapter)}
    # one for the warm clock, each time for the cold one
    assert len(loads) == 1 + (1 + EVALUATIONS) * len({1, torch.get_num_threads()})
    assert 0.01 <= duel.evaluating.warm < 1
    assert duel.predicting.warm > 0
    assert duel.predicting.cold > 0


def test_ratios_say_how_many_times_longer_the_evaluation_takes(adapter):
    duel = Duel(adapter, {}, {}, Times(0.01, 0.1), Times(0.5, 2.0))
    assert duel.ratios == Times(50.0, 20.0)


def test_the_faster_number_of_threads_counts_and_the_setting_is_put_back():
    before = torch.get_num_threads()
    seen = []

    def warm():
        seen.append(torch.get_num_threads())
        time.sleep(0.02 if torch.get_num_threads() == 1 else 0.001)

    torch.set_num_threads(2)
    try:
        clock = fastest(warm, lambda: None, 3)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1, 2}
    assert clock.threads == 2
    assert clock.cold < clock.warm


def test_the_median_leaves_the_first_call_and_outliers_out():
    calls = []

    def work():
        calls.append(1)
        time.sleep(0.2 if len(calls) in (1, 3) else 0.001)

    assert 0.001 <= median_seconds(work, 5) < 0.1
    assert len(calls) == 6
    assert PREDICTIONS > EVALUATIONS
