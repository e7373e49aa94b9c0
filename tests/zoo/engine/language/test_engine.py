import torch

from lorascope.zoo.bases.bundled import bundled_folder
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.language.engine import LanguageEngine, PackedEngine, load_model
from tests.zoo.conftest import make_job


def test_it_loads_shapes_and_fits():
    engine, job = LanguageEngine(), make_job(0)
    assert engine.shape(job).batch_size == job.batch_size
    base = engine.load(bundled_folder("exam-qwen"), torch.float32, False)
    assert (base.dtype, base.compiled) == (torch.float32, False)
    fitted = engine.fit(base, AdapterSpec(("k_proj",), 2, 2), [job, make_job(1)], slots=1)
    assert len(fitted) == 2


def test_packed_examples_give_the_same_adapters():
    jobs = [make_job(seed) for seed in range(2)]
    base = PackedEngine().load(bundled_folder("exam-qwen"), torch.float32, False)
    padded, packed = (
        engine.fit(base, AdapterSpec(("k_proj",), 2, 2), jobs, slots=2)
        for engine in (LanguageEngine(), PackedEngine())
    )
    assert not torch.equal(padded.rows, packed.rows)  # other sums
    assert torch.allclose(padded.rows, packed.rows, rtol=1e-2, atol=1e-5)


def test_the_model_is_frozen():
    model = load_model(bundled_folder("exam-qwen"))
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
