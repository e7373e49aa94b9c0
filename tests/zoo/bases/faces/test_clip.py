"""The CLIP: a genuine CLIPModel, that learns which caption is whose."""

from lorascope.zoo.bases.faces import clip as module
from lorascope.zoo.bases.faces.pictures import FIRST, draw_pool
from lorascope.zoo.bases.faces.tokenizer import new_tokenizer


def test_training_lowers_the_loss(monkeypatch):
    monkeypatch.setattr(module, "BATCH", 32)
    told = []
    pool = draw_pool(FIRST, 60, 0)
    clip = module.train_clip(
        pool, new_tokenizer(), steps=30, progress=lambda *said: told.append(said[3])
    )
    assert sum(told[-3:]) < 0.85 * sum(told[:3])
    assert clip.config.text_config.hidden_size == module.TEXT_WIDTH
    assert sum(p.numel() for p in clip.parameters()) < 500_000
    assert not clip.training
