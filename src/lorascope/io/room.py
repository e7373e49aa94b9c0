"""`Room`: what the factors of one file may take that the file does not hold as such.

A small file can name factors that grow when they are read: groups on a diagonal, repeated inputs, Tucker
cores. Each module takes its bytes from the room of its file, so that many small ones cannot do together
what one large one may not.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from lorascope.errors import HostileFileError

__all__ = ["Room"]

SPARE_BYTES = 16 << 20  # what the factors of any file may take beside it, and
GROWTH = 6  # how many times the file's size


@dataclass
class Room:
    """How many bytes are left, over all modules of a file."""

    left: int = SPARE_BYTES

    @classmethod
    def of(cls, tensors: Iterable[Tensor]) -> "Room":
        """The room that a file of these tensors has."""
        return cls(SPARE_BYTES + GROWTH * sum(tensor.nbytes for tensor in tensors))

    def take(self, layer: str, where: str, count: int, itemsize: int) -> None:
        """Takes room for a factor of `count` values. Raises HostileFileError if there is none left."""
        if count * itemsize > self.left:
            raise HostileFileError(
                f"Reading layer {layer!r} of {where!r}: a factor expands to {count} values, expected "
                f"at most {self.left // itemsize}: all that is expanded may take {GROWTH} "
                f"times the file and {SPARE_BYTES >> 20} MiB."
            )
        self.left -= count * itemsize
