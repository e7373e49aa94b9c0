"""The base of every model: from a batch of LoRAs to standardised values or logits.

What it is: the checks that all models share (signature, rank, missing layers), the split of a
forward pass into a part without trainable weights (`features`) and a part with them (`score`), and
the fitted buffers whose size only the training set knows. What it is not: a trainer.

    forward(batch) = score(features(batch))        (b, k)

`features` depends on the batch and on what `prepare` stored, never on what gradients change: so
training may compute it once for a whole set and draw minibatches with `select_features`.
"""

from itertools import chain
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.core.symmetry_kind import Symmetry
from lorascope.errors import DataError, RankError, SignatureError

__all__ = ["Features", "Kind", "Model", "select_features"]

Kind = Literal["regression", "multilabel", "multiclass"]
Features = Tensor | LoRABatch | tuple[Tensor | LoRABatch, ...]


def select_features(features: Features, index: Tensor | slice) -> Features:
    """Takes the LoRAs at `index` from what `Model.features` returned for a whole set.

    Every tensor inside has the batch as its first dimension.
    """
    if isinstance(features, tuple):
        return tuple(_select(part, index) for part in features)
    return _select(features, index)


def _select(part: Tensor | LoRABatch, index: Tensor | slice) -> Tensor | LoRABatch:
    return part.select(index) if isinstance(part, LoRABatch) else part[index]


class Model(nn.Module):
    """A model on LoRAs that is bound to one signature.

    A subclass says its `name`, its `symmetry` (the group under which its output does not change),
    where that symmetry `breaks` (a set of measure zero, "" for nowhere), whether it `accepts_missing`
    layers and `accepts_magnitudes` of DoRA (else it reads the factors alone), and fills at most three
    methods: `prepare`, `features`, `score`.

    `rank` is the rank it is built for. `max_rank` is the highest rank it takes (None: any).
    `options` are the remaining constructor options, fit for JSON; with `signature`, `out_features`
    and `rank` they rebuild the model, and `state_dict()` holds all that it has learned.
    """

    name: ClassVar[str]
    symmetry: ClassVar[Symmetry]
    breaks: ClassVar[str] = ""
    accepts_missing: ClassVar[bool] = False
    accepts_magnitudes: ClassVar[bool] = False

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        max_rank: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if rank < 1 or out_features < 1 or len(signature) == 0:
            raise DataError(
                f"Building the model {self.name!r}: found rank {rank}, {out_features} outputs and "
                f"{len(signature)} layers; each must be at least 1. "
                "Try the rank and the signature of the zoo that it will be trained on."
            )
        self.signature = signature
        self.out_features = out_features
        self.rank = rank
        self.max_rank = max_rank
        self.options: dict[str, Any] = dict(options or {})
        self._fitted: set[str] = set()

    # --- to fill ------------------------------------------------------------------------------

    def prepare(self, batch: LoRABatch) -> None:
        """Stores input statistics or templates of the training LoRAs; training calls it once."""

    def features(self, batch: LoRABatch) -> Features:
        """What `score` needs of each LoRA, free of trainable weights; by default the batch."""
        return batch

    def score(self, features: Features) -> Tensor:  # (b, k)
        """The values (standardised) or logits that the learned weights give to `features`."""
        raise NotImplementedError(f"{type(self).__name__} must fill score()")

    # --- shared -------------------------------------------------------------------------------

    def forward(self, batch: LoRABatch) -> Tensor:  # (b, k)
        """Values (standardised) or logits for each LoRA.

        Raises SignatureError for other layers or a missing one that is not accepted, RankError
        for a rank above `max_rank`.
        """
        self.check(batch)
        if batch.size == 0:
            return torch.zeros(0, self.out_features, dtype=self.dtype, device=self.device)
        return self.score(self.features(batch))

    @property
    def reads_magnitudes(self) -> bool:
        """Whether its answers depend on DoRA's magnitudes: it accepts them and its training LoRAs had some."""
        return False

    def register_fitted(self, name: str, empty: Tensor) -> None:
        """Registers a buffer whose shape the training set decides; loading takes the stored shape."""
        self.register_buffer(name, empty)
        self._fitted.add(name)

    def check(self, batch: LoRABatch) -> None:
        """Raises where the batch is not what this model was built for."""
        if batch.signature.layers != self.signature.layers:
            raise SignatureError(
                f"Applying the model {self.name!r}: {self._first_difference(batch.signature)}. "
                "Try collate(loras, signature=model.signature)."
            )
        if batch.size == 0:
            return
        if self.max_rank is not None and (highest := int(batch.ranks.max())) > self.max_rank:
            layer = self.signature.names[int(batch.ranks.amax(0).argmax())]
            raise RankError(
                f"Applying the model {self.name!r}: layer {layer!r} has rank {highest}, the model "
                f"takes at most {self.max_rank}. Try lora.truncate({self.max_rank}), or a model "
                "of any rank."
            )
        if not self.accepts_missing and bool((batch.ranks == 0).any()):
            row, layer_index = (int(i) for i in (batch.ranks == 0).nonzero()[0])
            raise SignatureError(
                f"Applying the model {self.name!r}: LoRA {row} of the batch lacks layer "
                f"{self.signature.names[layer_index]!r}, and this model needs all "
                f"{len(self.signature)}. Try a model that accepts missing layers, such as 'gl_net' "
                "or 'kernel_cosine'."
            )

    def _first_difference(self, found: Signature) -> str:
        for ours, theirs in zip(self.signature.layers, found.layers, strict=False):
            if ours != theirs:
                return (
                    f"expected layer {ours.name!r} ({ours.n} x {ours.m}), "
                    f"found {theirs.name!r} ({theirs.n} x {theirs.m})"
                )
        return f"expected {len(self.signature)} layers, found {len(found)}"

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of its weights: batches are brought to it."""
        return self._first_float().dtype

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self._first_float().device

    def _first_float(self) -> Tensor:
        for tensor in chain(self.parameters(), self.buffers()):
            if tensor.is_floating_point():
                return tensor
        return torch.empty(0)

    @property
    def parameter_count(self) -> int:
        """How many numbers are trained by gradients."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for name in self._fitted:
            found, buffer = state_dict.get(prefix + name), self.get_buffer(name)
            if found is not None and found.ndim == buffer.ndim and found.shape != buffer.shape:
                setattr(self, name, buffer.new_zeros(found.shape))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
