"""From how a file spells a module to the layer's name in the base model: a table by rule per architecture."""

from lorascope.io.names.canonical import Namer
from lorascope.io.names.original import architecture_of, originals, to_sgm
from lorascope.io.names.place import Place

__all__ = ["Namer", "Place", "architecture_of", "originals", "to_sgm"]
