"""What image families share: recipes, jobs, travel to workers."""

import math
import pickle

import pytest
import torch

from lorascope.errors import DataError
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.families.faces import FacesFamily
from lorascope.zoo.families.faces.family import SPEC
from lorascope.zoo.families.image_labels import AGAIN, SAMPLED


@pytest.fixture(scope="module")
def family(brief_folder):
    return FacesFamily({"seed": 5, "base": str(brief_folder)})


def test_a_job_follows_from_seed_and_index(family):
    job, again, other = family.job(3), family.job(3), family.job(4)
    assert torch.equal(job.latents, again.latents)
    assert job.seed == again.seed != other.seed
    hyper = family.hyper(3)
    assert job.latents.shape == (hyper["images"], 4, 8, 8)
    assert (job.learning_rate, job.steps, job.batch_size) == (
        hyper["learning_rate"],
        hyper["steps"],
        hyper["batch_size"],
    )
    assert job.prompt.shape == (22,)


def test_latents_are_the_scaled_means_of_the_vae(family):
    base, pictures = family.parts, family.draw(3).pictures
    with torch.no_grad():
        means = base.vae.encode(pictures).latent_dist.mean * base.vae.config.scaling_factor
    assert torch.allclose(family.job(3).latents, means, atol=1e-5)


def test_a_family_travels_without_its_base(family):
    assert family.parts is family.parts
    sent = pickle.dumps(family)
    assert len(sent) < 5000
    assert pickle.loads(sent).job(2).seed == family.job(2).seed


def test_labels_hold_known_and_sampled_values(family):
    def guide(texts, empty):
        return lambda latents, time: 0.1 * latents

    once, twice = family.labels(guide, [0, 1]), family.labels(guide, [0, 1], again=True)
    sampled = set(SAMPLED)
    names = {*family.targets, "identity", *(name + AGAIN for name in sampled)}
    assert [set(row) for row in once] == [{f"label:{name}" for name in names}] * 2
    for first, second in zip(once, twice, strict=True):
        assert all(math.isnan(first[f"label:{name}{AGAIN}"]) for name in sampled)
        assert all(first[f"label:{name}"] == second[f"label:{name}"] for name in sampled)
        assert all(second[f"label:{name}"] != second[f"label:{name}{AGAIN}"] for name in sampled)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [({}, "seed None"), ({"seed": "1"}, "seed '1'"), ({"seed": 1, "ranges": {"lr": 1}}, "lr")],
)
def test_bad_recipes_are_refused(recipe, message):
    with pytest.raises(DataError, match=message):
        FacesFamily(recipe)


def test_ranges_and_adapters_may_be_others(brief_folder):
    recipe = {"seed": 1, "base": str(brief_folder), "adapters": {"rank": 16}}
    family = FacesFamily({**recipe, "ranges": {"steps": {"choice": [7]}}})
    assert family.hyper(0)["steps"] == 7
    assert family.options["ranges"]["steps"] == {"choice": [7]}
    assert (family.spec.rank, family.spec.factor) == (16, SPEC.factor)
    named = FacesFamily({**recipe, "adapters": {"targets": ["to_k"], "rank": 2, "alpha": 3}})
    assert named.spec == AdapterSpec(("to_k",), 2, 3)
