"""What the families of a published Stable Diffusion share: the recipe, the job, the sampled labels.

A family fills in which files one LoRA is finetuned on (`files`) and the labels that follow from them
(`known_labels`); it may say what a LoRA shares with others (`group`) and which hyper-parameters are drawn
(`default_ranges`).

    clip_score       33 fixed prompts, one sample each, against their prompts by CLIP
    fidelity         samples of the LoRA's own words against the pictures it was finetuned on
    ..._gain         the same less the base's own under the same noise

The paper's settings: 20 steps, guidance 7.5, the same noise for all (section 5.2). Every `EVERY`-th
LoRA is scored a second time under other noise, which gives the labels' ceilings.
"""

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lorascope.errors import DataError
from lorascope.zoo.bases.faces.sampler import sample
from lorascope.zoo.bases.faces.similarity import clip_score, fidelity
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.fitted import Fitted, untrained
from lorascope.zoo.engine.grouping import JobShape
from lorascope.zoo.engine.image.base import ImageBase, layout_of
from lorascope.zoo.engine.image.engine import ImageEngine
from lorascope.zoo.engine.image.evaluate import guide_of
from lorascope.zoo.engine.image.job import ImageJob
from lorascope.zoo.families.draw import drawn, seed_of
from lorascope.zoo.families.image_labels import AGAIN
from lorascope.zoo.families.pipeline.parts import Parts, Sizes, clip_digest, load_parts, sizes_of
from lorascope.zoo.families.pipeline.photographs import Photographs, read_photographs
from lorascope.zoo.families.pipeline.prompts import PROMPTS

__all__ = ["PipelineFamily"]

RANGES: Mapping[str, Any] = {
    "learning_rate": {"log_uniform": [1e-4, 1e-3]},
    "steps": {"choice": [150]},
    "batch_size": {"choice": [1]},
    "prompt": {"choice": [0]},
}
WEIGHT_DECAY = 1e-2
GUIDANCE = 7.5
EVERY = 16
AT_ONCE = 8  # prompts that are sampled together
KEPT = 64  # LoRAs whose readable files are remembered: those of a group
LOADED = ("parts", "_before", "_readable")  # loaded or computed where it is needed, never sent
SAMPLED = ("clip_score", "clip_score_gain", "fidelity", "fidelity_gain")
UNREAD = dict.fromkeys(SAMPLED, float("nan"))  # also of adapters that diverged: see diverged.py


class PipelineEngine(ImageEngine):
    """Fewer adapters at once: activations of 512 pixels are large."""

    slots: ClassVar[int] = 8


class PipelineFamily:
    """LoRAs of the UNet of a Stable Diffusion folder, finetuned on pictures from files."""

    kind: ClassVar[str]
    words: ClassVar[tuple[str, ...]]  # what the pictures of one LoRA are called: hyper "prompt"
    spec: ClassVar[AdapterSpec]
    default_ranges: ClassVar[Mapping[str, Any]] = RANGES
    engine: ClassVar[ImageEngine] = PipelineEngine()
    meanings: ClassVar[Mapping[str, str]] = {
        "clip_score": "100 times the mean cosine, by CLIP, of samples of 33 fixed prompts and their prompts",
        "clip_score_gain": "clip_score less that of the base's samples from the same noise",
        "fidelity": "100 times the mean cosine of samples of the LoRA's own words and the pictures that it was "
        "finetuned on, by CLIP",
        "fidelity_gain": "fidelity less that of the base's samples of the same words from the same noise",
    }

    def __init__(
        self,
        base_folder: Path,
        data: Path,
        clip: Path,
        *,
        seed: int = 0,
        name: str = "",
        ranges: Mapping[str, Any] | None = None,
        sampled: bool = True,
        steps: int = 20,
        own_samples: int = 4,
    ) -> None:
        """Describe a zoo.

        Args:
            base_folder: of a StableDiffusionPipeline.
            data: the folder of the pictures.
            clip: the folder of the CLIP that scores.
            name: in the recipe, by default the kind.
            ranges: changes of `default_ranges`.
            sampled: read the labels that need samples, which takes longer than finetuning.
            steps: of the sampler.
            own_samples: samples of the LoRA's own words.
        """
        self.base_folder, self.data, self.clip, self.seed = base_folder, data, clip, seed
        self.name = name or self.kind
        self.ranges = {**self.default_ranges, **(ranges or {})}
        self.sampled, self.steps, self.own_samples = sampled, steps, own_samples
        unknown = sorted(set(self.ranges) - set(self.default_ranges))
        if unknown:
            raise DataError(
                f"describing a zoo of {self.name}: found ranges of {unknown}, expected some of "
                f"{sorted(self.default_ranges)}. Try leaving them out"
            )

    def files(self, index: int) -> Sequence[Path]:
        """The pictures that LoRA `index` is finetuned on."""
        raise NotImplementedError

    def photographs_of(self, index: int) -> Photographs:
        """The pictures that LoRA `index` is finetuned on, without those that cannot be read."""
        read = read_photographs(self.files(index), self.sizes.picture)
        known: dict[int, tuple[tuple[Path, ...], tuple[str, ...]]]
        known = vars(self).setdefault("_readable", {})
        known[index] = read.files, read.problems
        while len(known) > KEPT:
            del known[next(iter(known))]
        return read

    def readable(self, index: int) -> tuple[tuple[Path, ...], tuple[str, ...]]:
        """The files of LoRA `index` that can be read, and what is wrong with the others."""
        known = vars(self).get("_readable", {})
        if index not in known:
            self.photographs_of(index)
        found: tuple[tuple[Path, ...], tuple[str, ...]] = vars(self)["_readable"][index]
        return found

    def skipped(self, index: int) -> tuple[str, ...]:
        """The pictures that LoRA `index` was to be finetuned on and was not, as they are bad."""
        return self.readable(index)[1]

    def known_labels(self, index: int) -> dict[str, Any]:
        """The labels that follow from the data alone: name -> value."""
        raise NotImplementedError

    def group(self, index: int) -> str:
        """What LoRA `index` shares with others, which splits never cut: by default nothing."""
        return str(index)

    @property
    def own_targets(self) -> dict[str, dict[str, Any]]:
        """The targets among the known labels."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        """Without what is loaded: a family travels to workers, which load their own."""
        return {name: value for name, value in vars(self).items() if name not in LOADED}

    @property
    def options(self) -> dict[str, Any]:
        """What else makes the zoo; of a class of somebody's own its source, which draws and labels."""
        made = {"ranges": self.ranges, **source_digest(type(self))}
        if not self.sampled:
            return made
        sampling = {"steps": self.steps, "own_samples": self.own_samples, "guidance": GUIDANCE}
        return {**made, **sampling, "clip_sha256": clip_digest(self.clip)}

    @property
    def targets(self) -> dict[str, dict[str, Any]]:
        """What can be predicted of a LoRA."""
        regression = {"kind": "regression", "metric": "r2"}
        return self.own_targets | (dict.fromkeys(SAMPLED, regression) if self.sampled else {})

    @cached_property
    def sizes(self) -> Sizes:
        """Of pictures and latents."""
        return sizes_of(self.base_folder)

    @cached_property
    def parts(self) -> Parts:
        """What stands around the UNet, loaded once a process."""
        return load_parts(self.base_folder, self.clip)

    def place(self, device: torch.device) -> None:
        """Encode, decode and score on a device."""
        if device.type != "cpu" or "parts" in vars(self):
            vars(self)["parts"] = self.parts.to(device)

    def seed_at(self, index: int) -> int:
        """The seed of one LoRA."""
        return seed_of(self.kind, self.seed, index)

    def hyper(self, index: int) -> dict[str, float]:
        """The hyper-parameters of one LoRA."""
        generator = torch.Generator().manual_seed(self.seed_at(index))
        return {name: drawn(self.ranges[name], generator) for name in self.default_ranges}

    def word(self, index: int) -> str:
        """What the pictures of one LoRA are called."""
        return self.words[int(self.hyper(index)["prompt"])]

    def shape(self, index: int) -> JobShape:
        """What decides with which others a LoRA trains: known before any picture is read."""
        hyper = self.hyper(index)
        numbers = self.sizes.channels * self.sizes.latent**2
        return JobShape(int(hyper["batch_size"]), numbers, False, int(hyper["steps"]))

    def job(self, index: int) -> ImageJob:
        """The finetuning of one LoRA.

        Raises:
            DataError: none of its pictures can be read, or the VAE makes no finite latents of one.
        """
        hyper = self.hyper(index)
        read = self.photographs_of(index)
        latents = self.parts.encode(read.pictures)
        for file, each in zip(read.files, latents, strict=True):
            if not each.isfinite().all():
                raise DataError(
                    f"encoding the picture {file} for LoRA {index} of {self.name}: the VAE of "
                    f"{self.base_folder} made latents that are not finite. Try another VAE, or "
                    "taking the picture out of the data"
                )
        return ImageJob(
            seed=self.seed_at(index),
            latents=latents,
            prompt=self.parts.ids([self.word(index)])[0],
            learning_rate=hyper["learning_rate"],
            weight_decay=WEIGHT_DECAY,
            steps=int(hyper["steps"]),
            batch_size=int(hyper["batch_size"]),
        )

    def evaluate(
        self, base: ImageBase, fitted: Fitted, indices: Sequence[int]
    ) -> list[dict[str, Any]]:
        """The labels of fitted adapters, one row each."""
        rows = []
        for place, index in enumerate(indices):
            row = self.known_labels(index)
            if self.sampled:
                one, sound = fitted.select([place]), bool(fitted.finite[place])
                for noise, end, read in ((0, "", sound), (1, AGAIN, sound and index % EVERY == 0)):
                    found = self._sampled(base, one, index, noise) if read else UNREAD
                    row |= {f"{name}{end}": value for name, value in found.items()}
            rows.append(row)
        return rows

    def _sampled(self, base: ImageBase, one: Fitted, index: int, noise: int) -> dict[str, float]:
        """The sampled labels of one adapter under one noise."""
        fixed, own = self._features(base, one, [self.word(index)], noise)
        before, shown = self.before(base, noise), self._shown(index)
        scores = [clip_score(f, self.parts.wanted(PROMPTS)) for f in (fixed, before[0])]
        likeness = [
            fidelity(f, shown) for f in (own[0], before[1][self.words.index(self.word(index))])
        ]
        values = (scores[0], scores[0] - scores[1], likeness[0], likeness[0] - likeness[1])
        return dict(zip(SAMPLED, map(float, values), strict=True))

    def _shown(self, index: int) -> Tensor:
        """CLIP's features of the pictures that one LoRA was finetuned on: (e, k)."""
        return self.parts.features(self.photographs_of(index).pictures)

    def before(self, base: ImageBase, noise: int) -> tuple[Tensor, Tensor]:
        """The base's own features under one noise, made once a process: (33, k), (words, own, k)."""
        made: dict[int, tuple[Tensor, Tensor]] = vars(self).setdefault("_before", {})
        if noise not in made:
            alone = untrained(self.spec, layout_of(base, [self.spec]))
            made[noise] = self._features(base, alone, self.words, noise)
        return made[noise]

    def _features(
        self, base: ImageBase, one: Fitted, words: Sequence[str], noise: int
    ) -> tuple[Tensor, Tensor]:
        """CLIP's features of samples of the fixed prompts (33, k) and of words (w, own, k)."""
        asked = [*PROMPTS, *(word for word in words for _ in range(self.own_samples))]
        starts = _noise(len(PROMPTS) + self.own_samples, self.sizes.latents, noise)
        starts = torch.cat((starts, *[starts[len(PROMPTS) :]] * (len(words) - 1))).to(base.device)
        texts, (empty,) = self.parts.texts(asked), self.parts.texts([""])
        guide, found = guide_of(base, one, GUIDANCE), []
        for first in range(0, len(asked), AT_ONCE):
            some = slice(first, first + AT_ONCE)
            latents = sample(guide(texts[None, some], empty), starts[None, some], self.steps)
            found.append(self.parts.features(self.parts.decode(latents[0])))
        features = torch.cat(found)
        own = features[len(PROMPTS) :].view(len(words), self.own_samples, -1)
        return features[: len(PROMPTS)], own

    def report(self, table: Any) -> dict[str, Any]:
        """Distributions, ceilings and explanations of the labels of a zoo."""
        return self.report_on(table, self.targets)

    @staticmethod
    def report_on(table: Any, targets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The same where the targets are known and base and data may be nowhere."""
        from lorascope.zoo.families.image_report import image_report  # scikit-learn is slow

        return image_report(table, targets)


def source_digest(kind: type) -> dict[str, str]:
    """A hash of the source of a class and of those of somebody's own that it builds on; none of the package's.

    Raises:
        DataError: its source is nowhere.
    """
    own = [each for each in kind.__mro__[:-1] if not each.__module__.startswith("lorascope.")]
    try:
        code = "".join(map(inspect.getsource, own))
    except (OSError, TypeError) as problem:
        raise DataError(
            f"describing a zoo of {kind.__name__}: its source cannot be read ({problem}). Try a class that "
            "stands in a file"
        ) from problem
    return {"class_sha256": hashlib.sha256(code.encode()).hexdigest()} if own else {}


def _noise(count: int, shape: tuple[int, int, int], seed: int) -> Tensor:
    """What the samples of every LoRA of a zoo start from: (count, c, h, w)."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(42 + seed))
