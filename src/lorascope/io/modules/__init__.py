"""One module's tensors -> its update: a file per algorithm, told apart by the tensors that are there."""

from lorascope.io.modules.build import build_module
from lorascope.io.modules.parts import Built, Parts

__all__ = ["Built", "Parts", "build_module"]
