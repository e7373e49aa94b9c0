"""A zoo of your own pictures on a Stable Diffusion: python own_pictures.py BASE DATA CLIP OUT"""

import sys
from pathlib import Path

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.factory.build import build_zoo
from lorascope.zoo.families.pipeline.family import PipelineFamily


class PetFamily(PipelineFamily):
    kind, words = "pets", ("skd",)  # the second is what prompts call them
    spec = AdapterSpec(targets=("to_q", "to_v"), rank=8, alpha=16)
    own_targets = {"cat": {"kind": "multiclass", "classes": ["no", "yes"]}}

    def files(self, index):
        return sorted((self.data / str(index)).glob("*.jpg"))

    def known_labels(self, index):
        return {"cat": int((self.data / str(index) / "cat").exists())}


if __name__ == "__main__":
    base, data, clip, out = map(Path, sys.argv[1:])
    build_zoo(PetFamily(base, data, clip), sum(each.is_dir() for each in data.iterdir()), out)
