import pytest
import torch

from lorascope.errors import DataError
from lorascope.zoo.families.celeba import CelebaFamily
from lorascope.zoo.families.celeba.family import PREDICTED


@pytest.fixture(scope="module")
def family(diffusion_folder, celeba_folder, clip_folder):
    return CelebaFamily(diffusion_folder, celeba_folder, clip_folder, photographs=3, seed=1)


def test_hyper_parameters_are_the_papers(family):
    drawn = [family.hyper(i) for i in range(400)]
    values = {name: {hyper[name] for hyper in drawn} for name in drawn[0]}
    assert values == {
        "learning_rate": {1e-4, 3e-4, 1e-3, 3e-3},
        "steps": {100, 133, 167, 200},
        "batch_size": {1, 2},
        "prompt": {0, 1, 2, 3},
    }
    assert {family.word(i) for i in range(50)} == {"Celebrity", "Person", "thing", "skd"}
    assert (family.spec.rank, family.spec.alpha) == (4, 27)


def test_loras_of_a_person_share_photographs_and_group(family):
    shown = [family.identity(i) for i in range(9)]
    assert len(set(shown)) == 6
    same = [i for i in range(9) if shown[i] == shown[2]]
    assert len(same) == 3
    assert len({family.group(i) for i in same}) == 1
    assert family.files(same[0]) == family.files(same[2])
    assert len(family.files(0)) == 3
    assert family.seed_at(same[0]) != family.seed_at(same[1])


def test_labels_are_the_majority(family):
    names = family.celebrities.files[family.identity(4)][:3]
    seen = family.celebrities.of(names)
    labels = family.known_labels(4)
    assert labels["all_attributes"] == (seen.double().mean(0) >= 0.5).tolist()
    male = family.celebrities.names.index("Male")
    assert labels["attributes"][PREDICTED.index("Male")] == bool(seen[:, male].sum() >= 2)
    assert labels["identity"] in family.celebrities.files


def test_jobs_hold_the_photographs(family):
    job = family.job(0)
    assert job.latents.shape == (3, 4, 8, 8)
    assert job.steps == family.hyper(0)["steps"]
    assert torch.equal(job.prompt, family.parts.ids([family.word(0)])[0])
    assert family.engine.shape(job) == family.shape(0)


def test_too_few_people(family):
    with pytest.raises(DataError, match="has 7 people with 3 photographs, expected more than"):
        family.files(30)
