"""The CLIP of the faces base: an ordinary CLIPModel; its text tower also conditions the UNet.

loss = symmetric cross entropy over the pictures and captions of a batch
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorascope.errors import MissingExtraError
from lorascope.zoo.bases.faces.loop import Plan, Progress, train
from lorascope.zoo.bases.faces.pictures import Pool
from lorascope.zoo.bases.faces.tokenizer import LENGTH, Words

__all__ = ["CLIP_STEPS", "new_clip", "train_clip"]

TEXT_WIDTH = 64
TEXT = {
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": LENGTH,
}
VISION = {
    "hidden_size": 96,
    "intermediate_size": 288,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
CLIP_STEPS, BATCH, RATE = 900, 192, 1.5e-3
SHAKE = 0.04  # deviation of noise on the pictures that the CLIP sees: samples are not clean either


def new_clip(tokenizer: Any) -> Any:
    """An untrained CLIPModel for a tokenizer.

    Raises:
        MissingExtraError: transformers is not installed.
    """
    try:
        from transformers import CLIPConfig, CLIPModel
    except ImportError as error:
        raise MissingExtraError("transformers", "zoo", "training the CLIP of faces") from error
    special = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(text_config={**TEXT, **special}, vision_config=VISION, projection_dim=48)
    return CLIPModel(config)


def train_clip(
    pool: Pool,
    tokenizer: Any,
    *,
    seed: int = 0,
    steps: int = CLIP_STEPS,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Any:
    """Train the CLIP on a pool of pictures and its captions."""
    torch.manual_seed(seed)
    clip, words = new_clip(tokenizer), Words(tokenizer)

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(pool), (BATCH,), generator=generator)
        ids = words.ids(pool.captions(rows, generator))
        pictures = pool.pictures(rows)
        noise = SHAKE * torch.randn(pictures.shape, generator=generator)
        seen = clip(input_ids=ids, pixel_values=pictures + noise)
        same = torch.arange(BATCH)
        towards = F.cross_entropy(seen.logits_per_image, same)
        return (towards + F.cross_entropy(seen.logits_per_text, same)) / 2

    plan = Plan("clip", steps, RATE, seed, weight_decay=0.05, checkpoint=checkpoint)
    train(clip, loss_of, plan, progress)
    frozen: nn.Module = clip.eval().requires_grad_(False)
    return frozen
