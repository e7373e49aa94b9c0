"""`Place`: which layer, or which rows of which layers, a module of a file is."""

from dataclasses import dataclass

__all__ = ["Place"]


@dataclass(frozen=True)
class Place:
    """The layers of the base model that one module of a file is.

    Args:
        names: one layer; or several, whose rows lie one after the other in the file's fused matrix.
        fused: the name where the matrix cannot be split.
        mlp: the last of several is as wide as the rest leaves it; the others are as wide as the input.
        swap: the two halves of the rows (scale and shift) are in the other order in the base model.
        known: a table has the name; otherwise it stands as the file spells it.
    """

    names: tuple[str, ...]
    fused: str = ""
    mlp: bool = False
    swap: bool = False
    known: bool = True

    def sizes(self, n: int, m: int) -> tuple[int, ...] | None:
        """Rows of each part of a fused (n, m) matrix, None if they do not come out even."""
        count = len(self.names)
        if not self.mlp:
            return (n // count,) * count if n % count == 0 else None
        rest = n - (count - 1) * m
        # Flux.1 has 4 m here; FLUX.2's gated 6 m is one layer in its base model, too
        return (*(m,) * (count - 1), rest) if rest == 4 * m else None
