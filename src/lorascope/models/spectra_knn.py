"""Nearest neighbours by spectrum: the published reader of how many examples a LoRA was finetuned on.

    f(x) = mean over layers of mean of y_i over the k training LoRAs whose log spectra are nearest

The distance is taken layer by layer, and the layers vote; or over all layers at once, where that leaves a
smaller error. k and the kind of vote are chosen on LoRAs left out.
"""

from typing import ClassVar

import torch
from torch import Tensor

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.core.symmetry_kind import Symmetry
from lorascope.models.closed_form import ChooseBy, ClosedForm, Labels, Study
from lorascope.models.logistic import negative_log_likelihood
from lorascope.models.model import Features, Kind
from lorascope.models.spectra import Sizes

__all__ = ["SpectraKNN"]

COUNTS = (1, 2, 4, 8, 16, 32, 64)


class SpectraKNN(ClosedForm):
    """k nearest neighbours on the log spectra and norms of each layer.

    Source: DSiRe, arXiv 2406.19395, where each layer's singular values find their nearest training LoRA
    and the layers vote; here the spectra are those of u v^T, so that the gauge does not matter, k is
    chosen, and labels and classes get logits of smoothed frequencies.
    Equation: mean_l 1/k sum over the k nearest of y_i, by |z_l - z_il| of z = standardise([log s, log norm]).
    Under g: unchanged, since singular values belong to the product. Symmetry: GL(r). Piecewise constant.
    Numbers learned: k and the vote, beside N F stored features and N labels, F = layers (q + 1) + 1.
    Cost: O((n + m) r^2) per layer, then N F per LoRA.
    Any rank: the `values` largest are read. A missing layer has no vote.
    """

    name: ClassVar[str] = "spectra_knn"
    symmetry: ClassVar[Symmetry] = Symmetry.GL
    accepts_missing: ClassVar[bool] = True
    solved: tuple[str, ...] = ("truth", "mean", "count", "by_layer", "classes")

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        values: int | None = None,
        choose_by: ChooseBy = "left_out",
    ) -> None:
        super().__init__(
            signature, out_features, rank=rank, choose_by=choose_by, options={"values": values}
        )
        self.sizes = Sizes(signature, values=values or rank)
        self.register_fitted("landmark_sizes", torch.zeros(0, self.sizes.width))
        self.register_fitted("landmark_present", torch.zeros(0, len(signature), dtype=torch.bool))
        self.register_fitted("truth", torch.zeros(0, out_features))
        self.register_buffer("mean", torch.zeros(out_features))
        self.register_buffer("count", torch.ones((), dtype=torch.int64))
        self.register_buffer("by_layer", torch.ones((), dtype=torch.bool))
        self.register_buffer(
            "classes", torch.zeros((), dtype=torch.int64)
        )  # 0 values, 1 labels, 2 one

    def prepare(self, batch: LoRABatch) -> None:
        """Stores the spectra of the training LoRAs."""
        self.sizes.fit(batch)
        self.register_fitted("landmark_sizes", self.sizes(batch))
        self.register_fitted("landmark_present", batch.present.clone())

    def features(self, batch: LoRABatch) -> Features:
        """The standardised spectra (b, F) and which layers are there (b, l)."""
        return self.sizes(batch), batch.present

    def score(self, features: Features) -> Tensor:  # (b, k)
        """What the nearest training LoRAs had, as values or logits."""
        self.require_fitted(self.get_buffer("truth"))
        assert isinstance(features, tuple)
        z, present = features
        assert isinstance(z, Tensor)
        assert isinstance(present, Tensor)
        by_layer, count = bool(self.get_buffer("by_layer")), int(self.get_buffer("count"))
        votes = self._votes(z, present, by_layer=by_layer, counts=(count,), apart=None)
        kind: tuple[Kind, ...] = ("regression", "multilabel", "multiclass")
        return self._outputs(votes[0], count, kind[int(self.get_buffer("classes"))])

    def study(self, batch: LoRABatch, held: LoRABatch | None = None) -> Study:
        """Stores the spectra, and reads those of the validation LoRAs."""
        batch = batch.to(self.dtype, self.device)
        self.prepare(batch)
        own = self.get_buffer("landmark_sizes"), self.get_buffer("landmark_present")
        if held is None:
            return Study(batch.size, own)
        return Study(batch.size, own, (self.sizes(held.to(self.dtype, self.device)), held.present))

    @torch.no_grad()
    def solve(self, study: Study, labels: Labels) -> None:
        """Chooses k and the vote, and keeps the LoRAs that have a label."""
        for name in ("landmark_sizes", "landmark_present"):
            self.register_fitted(name, self.get_buffer(name)[labels.rows])
        self.register_fitted("truth", labels.y.to(self.dtype))
        self.get_buffer("mean").copy_(labels.y.mean(0))
        kinds = ("regression", "multilabel", "multiclass")
        self.get_buffer("classes").fill_(kinds.index(labels.kind))
        z, present = self.get_buffer("landmark_sizes"), self.get_buffer("landmark_present")
        groups = labels.rows if labels.groups is None else labels.groups
        apart: Tensor | None = groups.unsqueeze(1) != groups
        truth = labels.y
        if labels.held is not None:
            assert study.held is not None
            there, truth = labels.held
            z, present = (part[there] for part in study.held if part is not None)
            apart = None
        best = float("inf")
        for by_layer in (True, False):
            counts = tuple(c for c in COUNTS if c <= len(labels.rows))
            votes = self._votes(z, present, by_layer=by_layer, counts=counts, apart=apart)
            for count, vote in zip(counts, votes, strict=True):
                error = _error(self._outputs(vote, count, labels.kind), truth, labels.kind)
                if error < best:
                    best = error
                    self.get_buffer("count").fill_(count)
                    self.get_buffer("by_layer").fill_(by_layer)

    def _votes(
        self,
        z: Tensor,  # (b, F)
        present: Tensor,  # (b, l)
        *,
        by_layer: bool,
        counts: tuple[int, ...],
        apart: Tensor | None,  # (b, N) which training LoRAs may be neighbours
    ) -> list[Tensor]:  # (b, k) for each count
        """The mean label of the nearest, averaged over the layers that are there; the mean where none is."""
        landmarks, known = self.get_buffer("landmark_sizes"), self.get_buffer("landmark_present")
        width = self.sizes.spectra.values + 1
        layers = range(present.shape[1])
        blocks = [slice(i * width, (i + 1) * width) for i in layers] if by_layer else [slice(None)]
        total = [z.new_zeros(len(z), self.out_features) for _ in counts]
        voters = z.new_zeros(len(z), 1)
        for index, block in enumerate(blocks):
            distance = torch.cdist(
                z[:, block], landmarks[:, block], compute_mode="donot_use_mm_for_euclid_dist"
            )
            votes = present[:, index : index + 1] if by_layer else present.any(1, keepdim=True)
            allowed = known[:, index] if by_layer else known.any(1)
            allowed = allowed if apart is None else allowed & apart
            distance = torch.where(allowed, distance, torch.inf)
            near, rows = distance.topk(max(counts), largest=False)
            weight = near.isfinite().to(z.dtype).unsqueeze(2)
            found = (self.get_buffer("truth")[rows] * weight).cumsum(1)
            number = weight.cumsum(1)
            votes = votes & near.isfinite()[:, :1]
            for place, count in enumerate(counts):
                mean = found[:, count - 1] / number[:, count - 1].clamp(min=1)
                total[place] += torch.where(votes, mean, 0.0)
            voters += votes
        some = voters > 0
        return [torch.where(some, t / voters.clamp(min=1), self.get_buffer("mean")) for t in total]

    def _outputs(self, votes: Tensor, count: int, kind: Kind) -> Tensor:  # (b, k)
        """Values as they are; frequencies, with one more neighbour of the base rate, as logits."""
        if kind == "regression":
            return votes
        base = self.get_buffer("mean").clamp(1e-3, 1 - 1e-3)
        rate = (count * votes + base) / (count + 1)
        return rate.logit() if kind == "multilabel" else rate.log()


def _error(outputs: Tensor, truth: Tensor, kind: Kind) -> float:
    outputs = outputs.double()
    if kind == "regression":
        return float((outputs - truth).square().mean())
    return float(negative_log_likelihood(outputs, truth, kind).mean())
