import numpy as np
import pyarrow as pa

from lorascope.zoo.families.arc.report import arc_report

TARGETS = {
    "sources": {"kind": "multilabel", "classes": ["a", "b"]},
    "accuracy": {"kind": "regression"},
    "dataset_size": {"kind": "regression"},
}


def table(count=200, spread=0.1):
    rng = np.random.default_rng(0)
    rate = rng.uniform(1e-5, 1e-3, count)
    sources = rng.random((count, 2)) < 0.5
    skill = 0.3 + spread * sources[:, 0] + 50 * rate
    noise = rng.normal(0, 0.01, (2, count))
    columns = {
        "diverged": [False] * (count - 1) + [True],
        "hyper:learning_rate": rate,
        "label:sources": list(sources.tolist()),
        "label:accuracy": skill,
        "label:accuracy_gain": skill - 0.25,
        "label:accuracy_even": skill + noise[0],
        "label:accuracy_odd": skill + noise[1],
        "label:dataset_size": sources.sum(1).astype(float),
    }
    return pa.table(columns)


def test_what_explains_the_scores():
    report = arc_report(table(), TARGETS)
    assert report["loras"] == 200
    assert report["diverged"] == 1
    scores = report["scores"]["accuracy"]
    assert scores["base_value"] == 0.25
    assert scores["known_r2"] > 0.95 > scores["hyper_r2"]
    assert report["ceilings"]["accuracy"]["r2"] > 0.9
    assert "base_value" not in report["scores"]["dataset_size"]


def test_few_loras_and_none():
    few = arc_report(table(4), TARGETS)
    assert "ceilings" not in few
    assert few["scores"]["accuracy"]["mean"] > 0
    assert arc_report(table(1), TARGETS)["scores"] == {}
