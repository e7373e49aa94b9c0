"""Scores are reproducible, and rise with what they measure."""

import pytest
import torch

from lorascope.zoo.bases.faces.folder import FACES, load_faces
from lorascope.zoo.bases.faces.pictures import FIRST, draw_pool
from lorascope.zoo.bases.faces.scores import TOLD, base_scores, generate, quick_scores


def test_scores_repeat(brief_base):
    recorded = brief_base.facts.scores
    quick = quick_scores(brief_base, 1)
    assert {name: recorded[name] for name in quick} == quick


def test_noise_alone_tells_samples_of_one_prompt_apart(brief_base):
    same = generate(brief_base, ["a hat"] * 2, 0)
    assert not torch.equal(same[0], same[1])
    assert torch.equal(same, generate(brief_base, ["a hat"] * 2, 0))


def test_the_reconstruction_error_is_that_of_its_pictures(brief_base):
    pool = draw_pool(FIRST, 200, 10_008)
    pictures = pool.pictures(torch.arange(200))
    with torch.no_grad():
        rebuilt = brief_base.vae(pictures).sample.clamp(-1, 1)
    expected = float((rebuilt - pictures).abs().mean())
    assert abs(brief_base.facts.scores["vae_l1"] - expected) < 2e-3


def test_the_bundled_base_has_the_scores_that_are_recorded():
    base = load_faces("faces")
    recorded, quick = base.facts.scores, quick_scores(base)
    assert quick["clip_score"] == pytest.approx(recorded["clip_score"], abs=0.2)
    assert quick["denoising_loss"] == pytest.approx(recorded["denoising_loss"], rel=1e-3)
    assert quick["vae_l1"] == pytest.approx(recorded["vae_l1"], rel=1e-3)
    assert recorded["clip_score"] > 65
    assert min(value for name, value in recorded.items() if name.startswith("probe:")) > 0.75


@pytest.mark.slow  # 21 s each
@pytest.mark.parametrize("name", FACES)
def test_all_recorded_scores_are_those_of_the_shipped_weights(name, tmp_path, monkeypatch):
    """Rounding differs from machine to machine, and turns a picture that stands on an edge: three may.

    On another machine than the one that recorded them all 87 were equal, but for a single sample of 200.
    """
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path))
    base = load_faces(name)
    found, recorded = base_scores(base), base.facts.scores
    assert list(found) == list(recorded)
    shares = {"retrieval": 500, "classes": 350, "told": TOLD, "probe": 650}  # of so many pictures
    for score, value in recorded.items():
        count = shares.get(score.split(":")[0])
        allowed = 3 / count if count else 1e-3 * value
        assert abs(found[score] - value) <= allowed + 1e-5, score
