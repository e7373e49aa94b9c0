import functools
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from lorascope.bench import trust_methods
from lorascope.bench.trust_methods import (
    BY_PEFT,
    FULL,
    LOHA,
    LOKR,
    OLD_RANK,
    OTHER_METHODS,
    RATES,
    _start,
    adapters,
    finetuned,
    peft_version,
    typical,
)
from lorascope.core import Hadamard, Kronecker, LayerShape, Signature
from lorascope.errors import MissingExtraError, TrainingError
from lorascope.io import read_lora
from lorascope.zoo.bases.bundled import load_base
from lorascope.zoo.bases.quiet import quiet_loading
from lorascope.zoo.factory.pool import run_tasks
from lorascope.zoo.families.exam import ExamFamily

RANK = 2
NAMES = ("model.layers.0.self_attn.k_proj", "model.layers.1.self_attn.v_proj")
SIGNATURE = Signature(tuple(LayerShape(name, 48, 96) for name in NAMES))


def short(job):
    """A few steps of a job."""
    return replace(job, tokens=job.tokens[:32], weights=job.weights[:32], epochs=1)


class Short(ExamFamily):
    """The exam with few examples of each LoRA."""

    def job(self, index):
        return short(super().job(index))


@pytest.fixture(scope="module")
def base():
    with quiet_loading():
        return load_base("exam-qwen")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Adapters of two draws, and the folder that they lie in."""
    folder = tmp_path_factory.mktemp("methods")
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trust_methods, "ExamFamily", Short)
        found = adapters(
            "exam-qwen", SIGNATURE, RANK, folder, count=2, processes=0, note=said.append
        )
    assert said == ["exam-qwen: finetuning 8 adapters by " + ", ".join(RATES)]
    return found, folder


def test_every_method_gives_pairs_as_they_read_and_of_the_old_rank(kept):
    found, _ = kept
    assert set(found) == {*OTHER_METHODS, BY_PEFT}
    for kind, batch in found.items():
        assert batch.size == 2
        assert batch.signature.names == NAMES
        size = torch.stack([g.u.square().sum((0, 2, 3)) for g in batch.groups]).sum(0)
        assert bool((size > 0).all()), kind
        if kind == BY_PEFT or kind.endswith(OLD_RANK):
            assert batch.rank == RANK
            assert batch.magnitudes is None
    assert found[LOKR].rank > RANK < found[LOHA].rank


def test_adapters_are_read_from_folders_as_their_methods_write_them(kept):
    _, folder = kept
    (place,) = folder.iterdir()
    for method, kind in ((LOKR, Kronecker), (LOHA, Hadamard)):
        lora = read_lora(min((place / method).iterdir()))
        assert all(isinstance(layer, kind) for layer in lora.layers.values())
    full = read_lora(min((place / FULL.replace(" ", "-")).iterdir()))
    assert full.max_rank == 48
    assert not full.side


def test_what_was_finetuned_is_not_finetuned_again_and_a_stop_goes_on(kept, tmp_path, monkeypatch):
    found, folder = kept
    shutil.copytree(folder, tmp_path / "kept")
    done = []

    def count(*args):
        done.append(args[1])
        return finetuned(*args)

    monkeypatch.setattr(trust_methods, "ExamFamily", Short)
    monkeypatch.setattr(trust_methods, "finetuned", count)
    words = ("exam-qwen", SIGNATURE, RANK, tmp_path / "kept")
    adapters(*words, count=2, processes=0)
    assert done == []
    (place,) = (tmp_path / "kept").iterdir()
    last = max((place / LOHA).iterdir())
    shutil.rmtree(last)
    last.with_name(f".{last.name}").mkdir()  # as a stop leaves it
    again = adapters(*words, count=2, processes=0)
    assert done == [LOHA]
    for a, b in zip(again[LOHA].groups, found[LOHA].groups, strict=True):
        torch.testing.assert_close(a.u, b.u)  # seeded: the same adapter
    assert max((place / LOHA).iterdir()) == last
    assert len(list((place / LOHA).iterdir())) == 2


def test_draws_stand_for_many():
    family = ExamFamily(seed=3)
    draws = typical(family, 12)
    assert len(set(draws)) == 12
    reach = [job.steps * job.learning_rate for job in map(family.job, range(120))]
    some = [reach[index] for index in draws]
    for share in (0.25, 0.5, 0.75):
        assert np.quantile(some, share) == pytest.approx(np.quantile(reach, share), rel=0.2)


def test_full_finetuning_is_the_change_of_the_weights(base, tmp_path):
    job = short(ExamFamily(seed=5).job(0))
    before = {name: base.get_submodule(name).weight.clone() for name in NAMES}
    finetuned(base, FULL, NAMES, RANK, job, tmp_path / "full")
    for name in NAMES:
        assert torch.equal(base.get_submodule(name).weight, before[name])  # a copy was trained
        assert not base.get_submodule(name).weight.requires_grad
    lora = read_lora(tmp_path / "full")
    # Adam's first steps are as long as the learning rate
    longest = job.steps * job.learning_rate * RATES[FULL]
    for name in NAMES:
        change = lora.pair(name).dense().abs()
        assert 0 < float(change.max()) <= 2 * longest


def test_an_adapter_is_seeded_and_leaves_the_generator_as_it_was(base, tmp_path):
    job = short(ExamFamily(seed=5).job(1))
    state = torch.random.get_rng_state()
    for place in ("one", "two"):
        finetuned(base, BY_PEFT, NAMES, RANK, job, tmp_path / place)
        torch.rand(3)
    torch.random.set_rng_state(state)
    one, two = (read_lora(tmp_path / place) for place in ("one", "two"))
    for name in NAMES:
        assert torch.equal(one.pair(name).v, two.pair(name).v)
    assert one.provenance.scales[NAMES[0]].factor == 2.0  # as the exam's LoRAs


def test_worker_processes_finetune_too(tmp_path):
    start = functools.partial(_start, "exam-qwen", NAMES, RANK, tmp_path)
    ((task, folder),) = run_tasks([(FULL, 0)], start, 1)
    assert task == (FULL, 0)
    assert set(read_lora(folder).layers) == set(NAMES)


def test_without_peft_it_is_said_what_to_install(monkeypatch, tmp_path):
    assert peft_version() is not None
    monkeypatch.setattr(trust_methods, "peft_version", lambda: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lorascope\[zoo\]'"):
        adapters("exam-qwen", SIGNATURE, RANK, tmp_path, count=1, processes=0)


def test_an_adapter_that_fails_is_named(monkeypatch, tmp_path):
    def fail(*_):
        raise ValueError("no luck")

    monkeypatch.setattr(trust_methods, "finetuned", fail)
    with pytest.raises(TrainingError, match=r"by LoRA by PEFT, adapter \d: .*"):
        adapters("exam-qwen", SIGNATURE, RANK, tmp_path, count=1, processes=0)
