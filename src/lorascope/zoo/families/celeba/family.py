"""The CelebA family: this is CelebA-LoRA (Putterman et al. 2024, section 5.1) itself.

21 photographs of one celebrity, one of four prompts, learning rate, steps and batch size from the
paper's lists, rank 4 on to_q and to_v of the UNet. 3,900 LoRAs show 2,600 people: of every six, four
have one LoRA, one has two and one has three, always of the same 21 photographs. Alpha 27, weight decay
.01 and a constant rate are those of the paper's code.

    attributes        Male, Young, Wearing_Lipstick, Big_Lips, No_Beard: as most of the 21 have them
    all_attributes    all 40
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch

from lorascope.errors import DataError
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.families.celeba.people import Celebrities, digest_of, read_celebrities
from lorascope.zoo.families.draw import seed_of
from lorascope.zoo.families.faces.people import person_of
from lorascope.zoo.families.pipeline.family import PipelineFamily

__all__ = ["CelebaFamily"]

#: The five that annotators agree on most (Lingenfelter et al. 2022).
PREDICTED = ("Male", "Young", "Wearing_Lipstick", "Big_Lips", "No_Beard")
PHOTOGRAPHS = 21


class CelebaFamily(PipelineFamily):
    """LoRAs of Stable Diffusion, each finetuned on photographs of one celebrity."""

    kind: ClassVar[str] = "celeba"
    words: ClassVar[tuple[str, ...]] = ("Celebrity", "Person", "thing", "skd")
    spec: ClassVar[AdapterSpec] = AdapterSpec(targets=("to_q", "to_v"), rank=4, alpha=27.0)
    default_ranges: ClassVar[Mapping[str, Any]] = {
        "learning_rate": {"choice": [1e-4, 3e-4, 1e-3, 3e-3]},
        "steps": {"choice": [100, 133, 167, 200]},
        "batch_size": {"choice": [1, 2]},
        "prompt": {"choice": [0, 1, 2, 3]},
    }
    meanings: ClassVar[Mapping[str, str]] = {
        **PipelineFamily.meanings,
        "attributes": "five attributes, as at least half of the photographs that it was finetuned on have them",
        "all_attributes": "the same of all 40 attributes",
    }

    def __init__(
        self,
        base_folder: Path,
        data: Path,
        clip: Path,
        *,
        photographs: int = PHOTOGRAPHS,
        **others: Any,
    ) -> None:
        """Describe a zoo; `photographs` of each person, the rest as for any pipeline."""
        super().__init__(base_folder, data, clip, **others)
        self.photographs = photographs

    @property
    def options(self) -> dict[str, Any]:
        """What else makes the zoo."""
        own = {"photographs": self.photographs, "data_sha256": digest_of(self.data)}
        return super().options | own

    @property
    def celebrities(self) -> Celebrities:
        """What CelebA's lists say."""
        return read_celebrities(self.data)

    @property
    def own_targets(self) -> dict[str, dict[str, Any]]:
        """The targets among the known labels."""
        kind = {"kind": "multilabel", "metric": "accuracy"}
        return {
            "attributes": {**kind, "classes": list(PREDICTED)},
            "all_attributes": {**kind, "classes": list(self.celebrities.names)},
        }

    @cached_property
    def people(self) -> list[int]:
        """Everyone with enough photographs, in the order in which they are taken."""
        enough = self.celebrities.with_pictures(self.photographs)
        generator = torch.Generator().manual_seed(seed_of("celebrities", self.seed))
        return [enough[i] for i in torch.randperm(len(enough), generator=generator).tolist()]

    def identity(self, index: int) -> int:
        """Who LoRA `index` shows: a number of CelebA's identities.

        Raises:
            DataError: the data has too few people.
        """
        number = person_of(index)
        if number >= len(self.people):
            raise DataError(
                f"drawing LoRA {index} of {self.name}: {self.data} has {len(self.people)} people with "
                f"{self.photographs} photographs, expected more than {number}. Try a smaller --count"
            )
        return self.people[number]

    def _names(self, index: int) -> tuple[str, ...]:
        return self.celebrities.files[self.identity(index)][: self.photographs]

    def files(self, index: int) -> list[Path]:
        """The photographs that LoRA `index` is finetuned on."""
        return [self.celebrities.pictures / name for name in self._names(index)]

    def known_labels(self, index: int) -> dict[str, Any]:
        """Attributes that at least half of the readable photographs have, and who it is."""
        files, _ = self.readable(index)
        seen = self.celebrities.of(tuple(file.name for file in files))
        usual = dict(
            zip(self.celebrities.names, (2 * seen.sum(0) >= len(seen)).tolist(), strict=True)
        )
        return {
            "attributes": [usual[name] for name in PREDICTED],
            "all_attributes": list(usual.values()),
            "identity": self.identity(index),
        }

    def group(self, index: int) -> str:
        """LoRAs of the same person form a group: splits never cut it."""
        return f"identity-{self.identity(index)}"
