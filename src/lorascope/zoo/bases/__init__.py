"""Base models: tiny real transformers checkpoints, trained here from scratch and bundled."""

from lorascope.zoo.bases.bundled import BASES, BaseFacts, base_facts, load_base

__all__ = ["BASES", "BaseFacts", "base_facts", "load_base"]
