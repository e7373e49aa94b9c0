"""What the families of image LoRAs share: the base, the recipe's ranges, the job, the labels.

A family fills in what one LoRA is finetuned on (`draw`), the labels that follow from it
(`known_labels`), what it shares with others (`group`), and lists its targets.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lorascope.errors import DataError
from lorascope.zoo.bases.bundled import base_facts
from lorascope.zoo.bases.faces.folder import FACES, FacesBase, faces_folder, load_faces
from lorascope.zoo.bases.faces.prompts import OWN_PROMPTS, token_ids
from lorascope.zoo.bases.faces.sampler import GUIDANCE, STEPS
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.fitted import Fitted, untrained
from lorascope.zoo.engine.grouping import JobShape
from lorascope.zoo.engine.image.base import ImageBase, layout_of
from lorascope.zoo.engine.image.engine import ImageEngine
from lorascope.zoo.engine.image.evaluate import guide_of
from lorascope.zoo.engine.image.job import ImageJob
from lorascope.zoo.engine.image.quick import library
from lorascope.zoo.engine.image.quick_vae import QuickVAE
from lorascope.zoo.families.diverged import without_scores
from lorascope.zoo.families.draw import drawn, seed_of
from lorascope.zoo.families.image_labels import (
    AGAIN,
    LATENTS,
    OWN_SAMPLES,
    SAMPLED,
    Guide,
    ImageScores,
    alone,
    image_scores,
    own_features,
)

__all__ = ["Draw", "ImageFamily"]

WEIGHT_DECAY = 1e-2
#: What a family loads or computes when it is asked, and never sends.
LOADED = ("parts", "before", "quick_parts", "recent")
READ_TWICE = 10  # every how many LoRAs the sampled labels are read a second time
KEPT = 512  # draws that are kept: those of a group
AT_ONCE = 8  # LoRAs whose samples are in memory together


@dataclass(frozen=True, eq=False)
class Draw:
    """What is drawn for one LoRA."""

    seed: int
    pictures: Tensor  # (images, 3, 32, 32) in [-1, 1]
    shown: Tensor  # (images, ...): what is on each picture, in the family's terms
    hyper: Mapping[str, float]


class ImageFamily:
    """LoRAs of the tiny Stable Diffusion.

    `recipe` needs "seed"; "base" (a bundled name or a folder), "adapters" (fields of an
    AdapterSpec) and "ranges" may change the defaults. Hyper-parameters are learning_rate, steps,
    batch_size, prompt and what a family adds.
    """

    name: ClassVar[str]
    engine: ClassVar[ImageEngine] = ImageEngine()
    label_rows: ClassVar[int] = 350  # of finetuning, that the labels cost as much as
    default_spec: ClassVar[AdapterSpec]
    default_ranges: ClassVar[Mapping[str, Any]]
    words: ClassVar[tuple[str, ...]] = OWN_PROMPTS  # what the pictures of one LoRA are called
    sampling: ClassVar[tuple[int, float]] = (STEPS, GUIDANCE)
    meanings: ClassVar[Mapping[str, str]] = {
        "clip_score": "100 times the mean cosine of samples of 33 fixed prompts and their prompts, by the "
        "base's CLIP",
        "fidelity": "100 times the mean cosine of samples of the LoRA's own words and the pictures that it was "
        "finetuned on, by the base's CLIP",
        "fidelity_gain": "fidelity less that of the base's samples of the same words from the same noise",
    }

    def __init__(self, recipe: Mapping[str, Any]) -> None:
        doing = f"reading a recipe of the {self.name} family"
        if not isinstance(recipe.get("seed"), int):
            raise DataError(
                f"{doing}: found seed {recipe.get('seed')!r}, expected an integer. Try {{'seed': 0}}"
            )
        self.seed: int = recipe["seed"]
        base = recipe.get("base", FACES[0])
        self.base: str | Path = base if base in FACES else Path(base)
        self.spec: AdapterSpec = self.default_spec.changed(recipe.get("adapters", {}))
        self.ranges: dict[str, Any] = {**self.default_ranges, **recipe.get("ranges", {})}
        unknown = sorted(set(self.ranges) - set(self.default_ranges))
        if unknown:
            raise DataError(
                f"{doing}: found ranges of {unknown}, expected of {sorted(self.default_ranges)}. "
                "Try leaving them out"
            )

    def draw(self, index: int) -> Draw:
        """The pictures, hyper-parameters and seed of one LoRA."""
        raise NotImplementedError

    def drawn(self, index: int) -> Draw:
        """What `draw` gives, kept for a while: training and labels ask for it."""
        if index not in self.recent:
            while len(self.recent) >= KEPT:
                del self.recent[next(iter(self.recent))]
            self.recent[index] = self.draw(index)
        return self.recent[index]

    @cached_property
    def recent(self) -> dict[int, Draw]:
        """The last draws."""
        return {}

    def known_labels(self, index: int) -> dict[str, Any]:
        """The labels that follow from the data alone: "label:NAME" -> value."""
        raise NotImplementedError

    def group(self, index: int) -> str:
        """What LoRA `index` shares with others; those of one group are never split."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        """Without the loaded base: a family travels to workers, which load their own."""
        return {name: value for name, value in vars(self).items() if name not in LOADED}

    @property
    def base_folder(self) -> Path:
        """The whole folder of the base."""
        return faces_folder(self.base)

    @cached_property
    def parts(self) -> FacesBase:
        """The loaded base."""
        return load_faces(self.base)

    @cached_property
    def quick_parts(self) -> Mapping[torch.dtype, FacesBase]:
        """The base with a VAE that decodes faster, in each type that has kernels."""
        kinds = (torch.bfloat16, torch.float32)
        return {kind: replace(self.parts, vae=QuickVAE(self.parts.vae, kind)) for kind in kinds}

    @property
    def quickest(self) -> FacesBase:
        """The base with the VAE that encodes fastest here, in float32."""
        return self.parts if library() is None else self.quick_parts[torch.float32]

    @property
    def options(self) -> dict[str, Any]:
        """What else makes the zoo."""
        return {"ranges": self.ranges, "own_samples": OWN_SAMPLES}

    @property
    def sampled_targets(self) -> dict[str, dict[str, Any]]:
        """The targets that need samples."""
        own = base_facts(self.base_folder).scores["clip_score"]
        return {
            "clip_score": {"kind": "regression", "metric": "r2", "base_value": own},
            "fidelity": {"kind": "regression", "metric": "r2"},
            "fidelity_gain": {"kind": "regression", "metric": "r2", "base_value": 0.0},
        }

    def hyper(self, index: int) -> dict[str, float]:
        """The hyper-parameters of one LoRA."""
        return self._hyper(torch.Generator().manual_seed(self.seed_at(index)))

    def _hyper(self, generator: torch.Generator) -> dict[str, float]:
        return {name: drawn(self.ranges[name], generator) for name in self.default_ranges}

    def seed_at(self, index: int) -> int:
        """The seed of one LoRA."""
        return seed_of(self.name, self.seed, index)

    def prompt(self, index: int) -> Tensor:
        """Token ids (t,) of what all pictures of one LoRA are called."""
        named = OWN_PROMPTS[int(self.hyper(index)["prompt"])]
        return token_ids(self.parts.tokenizer, [named])[0]

    def job(self, index: int) -> ImageJob:
        """The finetuning of one LoRA."""
        draw = self.drawn(index)
        return ImageJob(
            seed=draw.seed,
            latents=encoded(self.quickest, draw.pictures),
            prompt=self.prompt(index),
            learning_rate=draw.hyper["learning_rate"],
            weight_decay=WEIGHT_DECAY,
            steps=int(draw.hyper["steps"]),
            batch_size=int(draw.hyper["batch_size"]),
        )

    def shape(self, index: int) -> JobShape:
        """What decides with which others LoRA `index` trains: no picture is drawn for it."""
        hyper = self.hyper(index)
        size = math.prod(LATENTS)
        return JobShape(int(hyper["batch_size"]), size, False, int(hyper["steps"]))

    def evaluate(
        self, base: ImageBase, fitted: Fitted, indices: Sequence[int]
    ) -> list[dict[str, Any]]:
        """The labels of fitted adapters, one row each; every tenth is read a second time."""
        rows: dict[int, dict[str, Any]] = {}
        parts = self.parts if base.unet.packed is None else self.quick_parts[base.dtype]
        if parts is not self.parts and base.dtype == torch.float32 and "before" not in vars(self):
            one = untrained(self.spec, layout_of(base, [self.spec]))
            many = one.select([0] * len(OWN_PROMPTS))
            vars(self)["before"] = self._before(guide_of(base, many, GUIDANCE), parts)
        order = sorted(range(len(indices)), key=lambda place: indices[place] % READ_TWICE != 0)
        twice = sum(index % READ_TWICE == 0 for index in indices)
        for first, last, again in ((0, twice, True), (twice, len(order), False)):
            for start in range(first, last, AT_ONCE):
                places = order[start : min(start + AT_ONCE, last)]
                guide = guide_of(base, fitted.select(places), GUIDANCE)
                asked = [indices[place] for place in places]
                labels = self.labels(guide, asked, again=again, parts=parts)
                rows.update(zip(places, labels, strict=True))
        named = (rows[place].items() for place in range(len(indices)))
        told = [{name.removeprefix("label:"): value for name, value in row} for row in named]
        read = {f"{name}{end}" for name in SAMPLED for end in ("", AGAIN)}
        return without_scores(told, fitted, {name for row in told for name in row} - read)

    def labels(
        self,
        guide: Guide,
        indices: Sequence[int],
        *,
        again: bool = False,
        parts: FacesBase | None = None,
    ) -> list[dict[str, Any]]:
        """All labels of finetuned models, one row each; `guide` denoises with those of `indices`.

        Sampled labels are read a second time under other noise where `again` is set, for their
        ceilings; elsewhere the second reading is NaN. `parts` stands for the base's own.
        """
        once = self._scores(guide, indices, 0, parts or self.parts)
        twice = self._scores(guide, indices, 1, parts or self.parts) if again else None
        rows = []
        for place, index in enumerate(indices):
            row = self.known_labels(index)
            for name in SAMPLED:
                row[f"label:{name}"] = float(getattr(once, name)[place])
                second = float("nan") if twice is None else float(getattr(twice, name)[place])
                row[f"label:{name}{AGAIN}"] = second
            rows.append(row)
        return rows

    def _scores(
        self, guide: Guide, indices: Sequence[int], noise_seed: int, parts: FacesBase
    ) -> ImageScores:
        prompts = torch.stack([self.prompt(index) for index in indices])
        pictures = [self.drawn(index).pictures for index in indices]
        which = [int(self.hyper(index)["prompt"]) for index in indices]
        before = self.before[noise_seed][which]
        return image_scores(parts, guide, prompts, pictures, before, noise_seed=noise_seed)

    @cached_property
    def before(self) -> Tensor:
        """CLIP's features of the base's samples of each own prompt under both noises: (2, p, s, k)."""
        return self._before(alone(self.parts.unet), self.parts)

    def _before(self, guide: Guide, parts: FacesBase) -> Tensor:
        prompts = token_ids(parts.tokenizer, OWN_PROMPTS)
        return torch.stack([own_features(parts, guide, prompts, seed) for seed in (0, 1)])

    def report(self, table: Any) -> dict[str, Any]:
        """Distributions, ceilings and explanations of the labels of a zoo."""
        return self.report_on(table, self.targets)

    @staticmethod
    def report_on(table: Any, targets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The same where the targets are known and the base may be nowhere."""
        # scikit-learn is slow to import
        from lorascope.zoo.families.image_report import image_report

        return image_report(table, targets)

    @property
    def targets(self) -> dict[str, dict[str, Any]]:
        """What can be predicted of a LoRA, with the base's own value where there is one."""
        raise NotImplementedError


@torch.no_grad()
def encoded(base: FacesBase, pictures: Tensor) -> Tensor:
    """Scaled means of the VAE of pictures (e, 3, 32, 32): (e, 4, 8, 8)."""
    latents: Tensor = base.vae.encode(pictures).latent_dist.mean * base.vae.config.scaling_factor
    return latents
