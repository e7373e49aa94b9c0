"""Base models: tiny real transformers and diffusers checkpoints, trained here from scratch and bundled."""

from lorascope.zoo.bases.bundled import BASES, BaseFacts, base_facts, load_base
from lorascope.zoo.bases.names import base_folder

__all__ = ["BASES", "BaseFacts", "base_facts", "base_folder", "load_base"]
