"""Kernel ridge models: compare a LoRA with every training LoRA, by direction, by size, or by both.

    f(x) = sum_i a_i k(x, x_i) + c

    kernel_raw      sum_l <dW_l, dW'_l>
    kernel_cosine   mean_l <dW_l, dW'_l> / (|dW_l| |dW'_l|)
    kernel_spectra  exp(-t |z - z'|^2),   z the standardised log spectra and norms
    kernel_product  exp(-t |z - z'|^2) (1 + kernel_cosine)

Nothing is trained by gradients: `fit` solves for a, and chooses the strength of the ridge and the
bandwidth t by the error on LoRAs left out. Labels enter as -1 and 1; a logistic map fitted on the left-out
scores turns scores into logits and is folded into a and c. Measured in the field: the product leads on
scores, the cosine on what the data were.

The training LoRAs are part of the model: `kernel_raw`, `kernel_cosine` and `kernel_product` keep the
factors of all of them as buffers, so that a saved model grows with their number by N r sum (n + m)
numbers, and a prediction costs one comparison with each.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lorascope.core.batch import GroupBatch, LoRABatch
from lorascope.core.gram import gram, layer_norms
from lorascope.core.signature import Signature
from lorascope.core.symmetry_kind import Symmetry
from lorascope.models.closed_form import ChooseBy, ClosedForm, Labels, Study
from lorascope.models.logistic import calibrate
from lorascope.models.model import Features
from lorascope.models.smoother import Choice, Smoother
from lorascope.models.spectra import Sizes

__all__ = ["KernelCosine", "KernelProduct", "KernelRaw", "KernelRidge", "KernelSpectra"]

BANDWIDTHS = (0.004, 0.015, 0.06, 0.25, 1.0)  # times 1 / median squared distance
BANDWIDTH_ROWS = 400  # as many training LoRAs choose it; an eigendecomposition each


class KernelRidge(ClosedForm):
    """What the four kernel models share; a subclass says which comparisons it multiplies.

    Any rank and missing layers are taken: a missing layer is a zero update of average size, whose
    cosine with anything is 0. Fitting N LoRAs costs N^2 r^2 sum (n + m) / 2 for a Gram matrix and
    O(N^3) for its eigenvalues.
    """

    symmetry: ClassVar[Symmetry] = Symmetry.GL
    accepts_missing: ClassVar[bool] = True
    solved: tuple[str, ...] = ("dual", "intercept", "bandwidth")
    direction: ClassVar[Literal["raw", "cosine"] | None] = None
    radial: ClassVar[bool] = False

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        choose_by: ChooseBy = "left_out",
    ) -> None:
        super().__init__(signature, out_features, rank=rank, choose_by=choose_by)
        if self.direction:
            for index, group in enumerate(signature.groups()):
                self.register_fitted(
                    f"landmark_u_{index}", torch.zeros(len(group), 0, rank, group.n)
                )
                self.register_fitted(
                    f"landmark_v_{index}", torch.zeros(len(group), 0, rank, group.m)
                )
            self.register_fitted(
                "landmark_ranks", torch.zeros(0, len(signature), dtype=torch.int64)
            )
        if self.radial:
            self.sizes = Sizes(signature, values=rank)
            self.register_fitted("landmark_sizes", torch.zeros(0, self.sizes.width))
            self.register_buffer("bandwidth", torch.ones(()))
        # wide, because their sum cancels: see STRENGTHS
        self.register_fitted("dual", torch.zeros(0, out_features, dtype=torch.float64))
        self.register_buffer("intercept", torch.zeros(out_features, dtype=torch.float64))

    @property
    def landmarks(self) -> LoRABatch:
        """The training LoRAs that others are compared with, as `_directed` stores them."""
        groups = tuple(
            GroupBatch(
                self.get_buffer(f"landmark_u_{index}"), self.get_buffer(f"landmark_v_{index}")
            )
            for index in range(len(self.signature.groups()))
        )
        return LoRABatch(self.signature, groups, self.get_buffer("landmark_ranks"))

    def prepare(self, batch: LoRABatch) -> None:
        """Stores the training LoRAs, or what is compared of them."""
        batch = batch.to(self.dtype, self.device)
        if self.direction:
            # copies: whoever gave the batch may change it
            for index, group in enumerate(self._directed(batch).groups):
                self.register_fitted(
                    f"landmark_u_{index}", group.u.clone(memory_format=torch.contiguous_format)
                )
                self.register_fitted(
                    f"landmark_v_{index}", group.v.clone(memory_format=torch.contiguous_format)
                )
            self.register_fitted("landmark_ranks", batch.ranks.clone())
        if self.radial:
            self.sizes.fit(batch)
            self.register_fitted("landmark_sizes", self.sizes(batch))

    def features(self, batch: LoRABatch) -> Tensor:  # (b, N)
        """The kernel between the batch and the training LoRAs."""
        self.require_fitted(self.get_buffer("dual"))
        return self._combine(*self._compare(batch))

    def score(self, features: Features) -> Tensor:  # (b, k)
        """The weighted sum of comparisons."""
        assert isinstance(features, Tensor)
        dual, intercept = self.get_buffer("dual"), self.get_buffer("intercept")
        return (features.to(dual.dtype) @ dual + intercept).to(self.dtype)

    def study(self, batch: LoRABatch, held: LoRABatch | None = None) -> Study:
        """Stores the training LoRAs and compares them: the Gram matrix that all targets share."""
        self.prepare(batch)
        beside = None if held is None else self._compare(held)
        return Study(batch.size, self._compare(batch, own=True), beside)

    @torch.no_grad()
    def solve(self, study: Study, labels: Labels) -> None:
        """Fills the weights of the comparisons, and keeps the LoRAs that have a label."""
        plain = labels.kind == "regression"
        y = labels.y if plain else 2 * labels.y - 1
        smoother, choice = self._choose(study, labels, y)
        dual, intercept = smoother.solve(y, choice.strength)
        if not plain:
            logit = calibrate(choice.left_out, labels.y, labels.kind)
            dual, intercept = dual * logit.slope, logit(intercept)
        self._keep(labels.rows)
        self.register_fitted("dual", dual)
        self.get_buffer("intercept").copy_(intercept)

    def _keep(self, rows: Tensor) -> None:
        """Only these of the training LoRAs that were stored."""
        for name, buffer in list(self.named_buffers(recurse=False)):
            if name.startswith("landmark"):
                axis = 1 if name[:10] in ("landmark_u", "landmark_v") else 0
                if len(rows) < buffer.shape[axis]:
                    self.register_fitted(name, buffer.index_select(axis, rows))

    def _choose(self, study: Study, labels: Labels, y: Tensor) -> tuple[Smoother, Choice]:
        """The bandwidth (left in its buffer) and the strength of least error."""
        inner, distance = (_cut(part, labels.rows, labels.rows) for part in study.facts)
        outer = None
        if labels.held is not None:
            assert study.held is not None
            there, truth = labels.held
            truth = truth if labels.kind == "regression" else 2 * truth - 1
            outer = [_cut(part, there, labels.rows) for part in study.held], truth

        def choose(rows: Tensor) -> tuple[Smoother, Choice]:
            def make() -> Smoother:
                kernel = self._combine(_cut(inner, rows, rows), _cut(distance, rows, rows))
                return Smoother(kernel, None if labels.groups is None else labels.groups[rows])

            bandwidth = float(self.get_buffer("bandwidth")) if self.radial else 0.0
            smoother = study.once((labels.key, bandwidth, rows.cpu().numpy().tobytes()), make)
            if outer is None:
                return smoother, smoother.choose(y[rows])
            beside = self._combine(*(_cut(part, ..., rows) for part in outer[0]))
            return smoother, smoother.choose(y[rows], (beside, outer[1]))

        if distance is not None:
            self._choose_bandwidth(distance, lambda rows: choose(rows)[1].error)
        return choose(torch.arange(len(y), device=y.device))

    def _choose_bandwidth(self, distance: Tensor, error: Callable[[Tensor], float]) -> None:
        """Leaves in its buffer the bandwidth whose error on some training rows is least."""
        size, generator = len(distance), torch.Generator().manual_seed(0)
        rows = torch.randperm(size, generator=generator)[:BANDWIDTH_ROWS].to(distance.device)
        apart = distance[distance > 0]
        typical = float(apart.median()) if apart.numel() else 1.0
        bandwidth = self.get_buffer("bandwidth")
        errors = []
        for factor in BANDWIDTHS:
            bandwidth.fill_(factor / typical)
            errors.append(error(rows))
        bandwidth.fill_(BANDWIDTHS[errors.index(min(errors))] / typical)

    def _compare(
        self, batch: LoRABatch, *, own: bool = False
    ) -> tuple[Tensor | None, Tensor | None]:  # (b, N) each
        """Inner products or cosines, and squared distances of sizes, to the training LoRAs.

        `own`: the batch is the training set itself, whose Gram matrix is symmetric.
        """
        batch = batch.to(self.dtype, self.device)
        inner = distance = None
        if self.direction:
            inner = gram(self._directed(batch), None if own else self.landmarks)
        if self.radial:
            # not through a matrix product, which would lose small distances to rounding
            distance = torch.cdist(
                self.sizes(batch),
                self.get_buffer("landmark_sizes"),
                compute_mode="donot_use_mm_for_euclid_dist",
            ).square()
        return inner, distance

    def _directed(self, batch: LoRABatch) -> LoRABatch:
        """The LoRAs whose inner products are the kernel: for cosines, each layer at norm L^(-1/2)."""
        if self.direction == "raw":
            return batch
        groups = []
        for group, norm in zip(batch.groups, layer_norms(batch), strict=True):
            scale = torch.where(norm > 0, 1 / norm, 0.0) / len(self.signature) ** 0.5
            groups.append(GroupBatch(group.u * scale[..., None, None], group.v))
        return batch.with_groups(groups)

    def _combine(self, inner: Tensor | None, distance: Tensor | None) -> Tensor:  # (b, N)
        """The kernel from its comparisons at the present bandwidth."""
        if distance is None:
            assert inner is not None
            return inner
        radial = (-self.get_buffer("bandwidth") * distance).exp()
        return radial if inner is None else radial * (1 + inner)


def _cut(x: Tensor | None, rows: Any, columns: Tensor) -> Tensor | None:
    return None if x is None else x[rows][..., columns]


class KernelRaw(KernelRidge):
    """Kernel ridge with the inner product of the updates: a linear model on all entries of u v^T.

    Equation: k(x, x') = sum_l <dW_l, dW'_l> = sum_l tr(u'^T u v^T v').
    Under g: unchanged, since it depends on u v^T alone. Symmetry: GL(r).
    Source: the linear limit of MLP+Dense (paper, section 1.2), without a dense update.
    Numbers learned: N k, beside the N training LoRAs. Cost: N r^2 sum (n + m) per LoRA.
    """

    name: ClassVar[str] = "kernel_raw"
    direction: ClassVar[Literal["raw", "cosine"] | None] = "raw"


class KernelCosine(KernelRidge):
    """Kernel ridge with the mean over layers of the cosine of the updates: direction without size.

    Equation: k(x, x') = 1/L sum_l <dW_l, dW'_l> / (|dW_l| |dW'_l|).
    Under g: unchanged, since it depends on u v^T alone. Symmetry: GL(r).
    Source: measured here as the strongest simple reader of what an adapter was finetuned on.
    Numbers learned: N k, beside the N training LoRAs. Cost: N r^2 sum (n + m) per LoRA.
    """

    name: ClassVar[str] = "kernel_cosine"
    direction: ClassVar[Literal["raw", "cosine"] | None] = "cosine"


class KernelSpectra(KernelRidge):
    """Kernel ridge with a Gaussian of log spectra and norms: size without direction.

    Equation: k(x, x') = exp(-t |z - z'|^2), z = standardise([log s_1 .. log s_r, log norms]).
    Under g: unchanged, since singular values belong to u v^T. Symmetry: GL(r).
    Source: the nonparametric sibling of MLP+SVD (paper, section 1.2).
    Numbers learned: N k, beside N F stored features, F = layers (r + 1) + 1.
    Cost: O((n + m) r^2) per layer, then N F per LoRA.
    """

    name: ClassVar[str] = "kernel_spectra"
    radial: ClassVar[bool] = True


class KernelProduct(KernelRidge):
    """Kernel ridge with a Gaussian of sizes times one plus the cosine of directions.

    Equation: k(x, x') = exp(-t |z - z'|^2) (1 + 1/L sum_l cos(dW_l, dW'_l)).
    Under g: unchanged, since both parts depend on u v^T alone. Symmetry: GL(r).
    Source: measured here as the strongest simple predictor of scores: direction and size are separate
    facts, and the product lets the effect of a direction depend on the size.
    Numbers learned: N k, beside the N training LoRAs and N F features.
    Cost: N (r^2 sum (n + m) + F) per LoRA.
    """

    name: ClassVar[str] = "kernel_product"
    direction: ClassVar[Literal["raw", "cosine"] | None] = "cosine"
    radial: ClassVar[bool] = True
