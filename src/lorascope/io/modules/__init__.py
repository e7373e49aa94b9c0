"""One module's tensors -> its update, and back: a file per algorithm, told apart by their names."""

from lorascope.io.modules.build import build_module
from lorascope.io.modules.parts import Built, Parts
from lorascope.io.modules.slots import slots_of

__all__ = ["Built", "Parts", "build_module", "slots_of"]
