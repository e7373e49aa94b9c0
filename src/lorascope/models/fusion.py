"""`fusion`, the default model: directions and sizes of updates, as kernels that share one set of weights.

    z      = [standardised log spectra and norms, which layers are there]
    x      = [core, left, right] of `cores`,  w = the leading principal components of the cores
    kernels  core, left, right, sizes:  inner products of these numbers
             even:   the same of cores, each entry divided by the root of its usual size
             near:   exp(-t |z - z'|^2 / typical), for three t
             turned: near (w . w'), for two t
             magnitudes: inner products of `MagnitudeFeatures`, where training LoRAs have DoRA's magnitudes
    h      = a first look: what stacked ridges on all of these say of everything that is known of the training
             LoRAs (every label, every hyper-parameter), each LoRA's own group being left out
    g      = what every layer by itself says of the same (`layer_hints.py`)
    kernels  hint, layers:  h . h', near_t(h, h') for three t, g . g'
             joint:  near_t(h, h') near_t(g*, g*'), g* the leading principal components of g, for two t
    f      = sum over mixtures s of w_s f_s,  f_s = ridge with the kernels of a mixture added up

The strength of each ridge is chosen by leaving out groups, and how much it says by its left-out predictions
(`stacking`). `near`, `turned` and those of h and g compare with at most `landmarks` of the training LoRAs
(Nystroem): so all mixtures are linear in one finite list of numbers, and are added up into one map. No training
LoRA is kept but z, w, h and g* of the landmarks. The kernels stand in `mixtures.py`.

A score is a crooked function of few things (what was learned, how long, how fast), each nearly linear in the
update: so the second look is taken at the answers of the first; those of layers apart add what their one answer
hides. It is left out where it raises the loss of LoRAs that neither look has seen (`trial.py`): where there is
nothing to learn, left-out answers betray the labels they were learned from.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.core.symmetry_kind import Symmetry
from lorascope.layers.matmul import matmul_to_few
from lorascope.models.closed_form import ClosedForm, Labels, Study
from lorascope.models.cores import Cores, default_width
from lorascope.models.curve import bend, no_curve
from lorascope.models.layer_hints import Hints, answer_layers, blocks_of, learn_layers
from lorascope.models.likeness import alike, apart, leading, principal, some_rows, usual_distance
from lorascope.models.magnitudes import MagnitudeFeatures
from lorascope.models.mixed_kernels import Kernels, Mixture, share
from lorascope.models.mixtures import (
    HINT,
    JOINT,
    LANDMARKED,
    LINEAR,
    MAGNITUDES,
    MIXTURES,
    NEAR,
    SECOND,
    SECOND_LOOK,
    TURNED,
)
from lorascope.models.model import Features
from lorascope.models.rounding import rounded
from lorascope.models.smoother import Smoother
from lorascope.models.spectra import Sizes
from lorascope.models.stacked_ridges import smoothers_of, stack_each, stack_ridges
from lorascope.models.standardise import FARTHEST
from lorascope.models.trial import Trial, worth_it

__all__ = ["Fusion"]

OF_MAGNITUDES = (MAGNITUDES, "to_hint_" + MAGNITUDES)
COMPONENT_NUMBERS = 2_000_000  # most numbers of the map from cores to w: 4 MB, as all are rounded
HINT_NUMBERS = LAYER_NUMBERS = 2_500_000  # of the maps to h and to g: 5 MB each
LAYER_COMPONENTS = 32
SECOND_LANDMARKS = 2  # times those of the first look: h and g* are few numbers
CHUNK = 256  # LoRAs seen at once


class Fusion(ClosedForm):
    """Ridge regression on directions, sizes and their products, then on its own answers, all stacked.

    Source: ours. Kernels of directions and sizes as in `kernel_cosine` and `kernel_product`, Nystroem
    landmarks (Williams and Seeger 2001), stacked generalisation by left-out predictions (Wolpert 1992,
    Breiman 1996).
    Equation: f = bend(x . a + z . b + h . s + g . t + i + sum over landmarks of near_t(z) (c_t + d_t w . w')
    + near_t(h) (e_t + near_t(g*) j_t)), h = the same of x, z and w, g_l a linear map of layer l's x.
    Under g: unchanged: cores, their squares and spectra depend on u v^T alone. Symmetry: GL(r).
    Numbers learned: k for each number of x, z, h and g and 15 k a landmark; nearly as many for each hint, of
    which there are at most `hints`; directions (c sum (n + m)), the map to w, and z, w, h and g* of landmarks.
    None of these grows with the training set. Cost: O((c r + r^2) sum (n + m)) per LoRA, then O(L c^2 +
    landmarks F). Fitting N LoRAs: twelve eigenvalue problems of N x N and one for each of at most 16 blocks of
    layers, and four times both looks at 450 of them, shared by all targets but for rows without a label.
    Any rank; missing layers are zero, and the others then weigh more. Which are missing is told beside.

    Args:
        width: directions c of a layer's outputs and inputs, as many as the limits of `cores` allow by default.
        landmarks: most training LoRAs that `near` and `turned` compare with; twice as many for hints.
        components: principal components w of the cores.
        hints: most numbers of h; 0 for no second look.
    """

    name: ClassVar[str] = "fusion"
    symmetry: ClassVar[Symmetry] = Symmetry.GL
    accepts_missing: ClassVar[bool] = True
    accepts_magnitudes: ClassVar[bool] = True
    reads_beside: ClassVar[bool] = True

    typical: Tensor
    hint_typical: Tensor
    layer_typical: Tensor

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        width: int | None = None,
        landmarks: int = 1000,
        components: int = 64,
        hints: int = 32,
    ) -> None:
        super().__init__(signature, out_features, rank=rank, choose_by="left_out")
        self.options: dict[str, Any] = {
            "width": width,
            "landmarks": landmarks,
            "components": components,
            "hints": hints,
        }
        self.most_landmarks = landmarks
        self.cores = Cores(signature, width or default_width(signature))
        self.sizes_of = Sizes(signature, values=rank)
        self.magnitudes_of = MagnitudeFeatures(signature)
        widths = (*self.cores.widths, self.sizes_of.width + len(signature))
        self.most_components = max(1, min(components, COMPONENT_NUMBERS // widths[0]))
        self.most_hints = min(hints, max(4, HINT_NUMBERS // sum(widths)))
        self.layer_hints = min(hints, max(4, LAYER_NUMBERS // sum(widths)))
        self.blocks = blocks_of(self.cores.of_layers)
        self.register_buffer("present_mean", torch.ones(len(signature)))
        self.register_buffer("typical", torch.ones(()))
        self.register_fitted("components", torch.zeros(widths[0], 0))
        self.register_fitted("landmark_z", torch.zeros(0, widths[3]))
        self.register_fitted("landmark_w", torch.zeros(0, 0))
        self._widths = dict(zip(LINEAR, widths, strict=True))
        self._empty_maps()

    def _empty_maps(self) -> None:
        """Buffers of the map to h and of the map to the answer, all of which labels decide, empty."""
        buffers, widths, outputs = dict[str, Tensor](), self._widths, self.out_features
        for prefix, k in (("to_hint_", 0), ("", outputs)):
            buffers |= {prefix + name: torch.zeros(width, k) for name, width in widths.items()}
            # wide: the weights of landmarks that are near each other nearly cancel
            wide = {name: torch.zeros(0, k, dtype=torch.float64) for name in LANDMARKED}
            buffers |= {prefix + name: empty for name, empty in wide.items()}
            buffers[prefix + "intercept"] = torch.zeros(k, dtype=torch.float64)
        buffers |= {name: torch.zeros(0, outputs) for name in ("hint", "layers")}
        buffers |= {"to_layers_" + name: torch.zeros(widths[name], 0) for name in self.blocks[0]}
        buffers |= {name: torch.zeros(0, outputs, dtype=torch.float64) for name in SECOND}
        buffers |= {"layers_intercept": torch.zeros(0, 0).double(), "curve": no_curve(outputs)}
        told = OF_MAGNITUDES if self.reads_magnitudes else ()
        tables = ("landmark_hint", "layer_components", "landmark_layers", *told)
        buffers |= {name: torch.zeros(0, 0) for name in tables}
        buffers |= {name: torch.ones(()) for name in ("hint_typical", "layer_typical")}
        for name, empty in buffers.items():
            self.register_fitted(name, empty)
        self.solved = (*buffers, *OF_MAGNITUDES)

    # --- reading ------------------------------------------------------------------------------

    def features(self, batch: LoRABatch) -> Features:
        """The numbers that are compared, likeness to landmarks, h and g of each LoRA."""
        self.require_fitted(self.get_buffer("landmark_z"))
        return self.compared(self._see(batch))

    def compared(self, linear: Mapping[str, Tensor]) -> Features:
        """What `score` reads of LoRAs whose numbers (b, F), in the order of `linear_names`, are given."""
        components = self.get_buffer("components")
        w = matmul_to_few(linear["core"], components)
        near = self._near(linear["sizes"], w)
        return (
            *linear.values(),
            *near.values(),
            self._hints(linear, near),
            self._layer_hints(linear),
        )

    def score(self, features: Features) -> Tensor:  # (b, k)
        """The one map that all mixtures were added up to, and its curve."""
        assert isinstance(features, tuple)
        *seen, hints, layers = (part for part in features if isinstance(part, Tensor))
        told = dict(zip((*self.linear_names, *LANDMARKED), seen, strict=True))
        near = {name: told.pop(name) for name in LANDMARKED}
        out = self._map("", told, near)
        if hints.shape[1]:
            out = out + hints @ self.get_buffer("hint") + layers @ self.get_buffer("layers")
            for name, kernel in self._alike(hints, layers).items():
                out = out + kernel @ self.get_buffer(name).to(kernel.dtype)
        return bend(out, self.get_buffer("curve")).to(self.dtype)

    def _see(self, batch: LoRABatch) -> dict[str, Tensor]:  # LINEAR: (b, F) each
        # factors of 16 bits are not widened: half as much is read
        narrow = batch.dtype.itemsize < self.dtype.itemsize and self.dtype == torch.float32
        batch = batch.to(None if narrow else self.dtype, self.device)
        seen = self.cores.read(batch)
        there = batch.present.to(self.dtype) - self.get_buffer("present_mean")
        z = self.sizes_of(batch, seen.roots)
        parts = [*self.cores.views(seen), torch.cat([z, there], 1)]
        if self.reads_magnitudes:
            parts.append(self.magnitudes_of(batch))
        return dict(zip(self.linear_names, parts, strict=True))

    @property
    def reads_magnitudes(self) -> bool:
        """Whether any training LoRA had DoRA's magnitudes."""
        return self.magnitudes_of.fitted

    @property
    def linear_names(self) -> tuple[str, ...]:
        """The numbers that are compared by inner products."""
        return (*LINEAR, MAGNITUDES) if self.reads_magnitudes else LINEAR

    @property
    def mixtures(self) -> Mapping[str, Mixture]:
        """The mixtures of the first look; those of LoRAs with magnitudes have one more."""
        if not self.reads_magnitudes:
            return MIXTURES
        return {**MIXTURES, MAGNITUDES: {MAGNITUDES: 1.0}}

    def _map(
        self, prefix: str, linear: Mapping[str, Tensor], landmarked: Mapping[str, Tensor]
    ) -> Tensor:
        """What the weights of a prefix say of numbers and of likeness to landmarks: (b, k)."""
        out = self.get_buffer(prefix + "intercept")
        for name, part in linear.items():
            out = out + matmul_to_few(part, self.get_buffer(prefix + name))
        for name, kernel in landmarked.items():
            out = out + kernel @ self.get_buffer(prefix + name).to(kernel.dtype)
        return out

    def _hints(self, linear: Mapping[str, Tensor], near: Mapping[str, Tensor]) -> Tensor:  # (b, a)
        if not len(self.get_buffer("landmark_hint")):
            return linear["core"].new_zeros(len(linear["core"]), 0)
        return self._map("to_hint_", linear, near).clamp(-FARTHEST, FARTHEST).to(self.dtype)

    def _layer_hints(self, linear: Mapping[str, Tensor]) -> Tensor:  # (b, k a)
        if not len(self.get_buffer("landmark_layers")):
            return linear["core"].new_zeros(len(linear["core"]), 0)
        maps = {name: self.get_buffer("to_layers_" + name) for name in self.blocks[0]}
        told = answer_layers(linear, self.blocks, maps, self.get_buffer("layers_intercept"))
        return told.clamp(-FARTHEST, FARTHEST).to(self.dtype)

    def _near(self, z: Tensor, w: Tensor) -> dict[str, Tensor]:  # LANDMARKED: (b, M) each
        """`near` and `turned` between LoRAs and the landmarks."""
        near = alike(apart(z, self.get_buffer("landmark_z"), self.typical), NEAR)
        same = w.double() @ self.get_buffer("landmark_w").double().T
        return near | {name: near[other] * same for name, other in TURNED.items()}

    def _alike(self, hints: Tensor, layers: Tensor) -> dict[str, Tensor]:  # SECOND: (b, M) each
        """Nearness to the landmarks by hints, and by layers' hints too."""
        far = apart(hints, self.get_buffer("landmark_hint"), self.hint_typical)
        g = layers @ self.get_buffer("layer_components")
        other = apart(g, self.get_buffer("landmark_layers"), self.layer_typical)
        return alike(far, HINT) | alike(far + other, JOINT)

    # --- fitting ------------------------------------------------------------------------------

    def prepare(self, batch: LoRABatch) -> None:
        """Stores directions and the statistics of sizes and magnitudes."""
        batch = batch.to(self.dtype, self.device)
        self.cores.fit(batch)
        self.sizes_of.fit(batch)
        self.magnitudes_of.fit(batch)
        self.get_buffer("present_mean").copy_(batch.present.to(self.dtype).mean(0))

    def study(self, batch: LoRABatch, held: LoRABatch | None = None) -> Study:
        """Directions, landmarks, what is seen of each LoRA, and the kernel of the cores."""
        self.prepare(batch)
        seen = [self._see(batch.select(slice(i, i + CHUNK))) for i in range(0, batch.size, CHUNK)]
        linear = {name: torch.cat([part[name] for part in seen]) for name in seen[0]}
        core = (linear["core"] @ linear["core"].T).double()
        w = self._find_components(linear["core"], core)
        self._set_landmarks(linear["sizes"], w)
        return Study(batch.size, (*linear.values(), w, core))

    def _find_components(self, views: Tensor, gram: Tensor) -> Tensor:  # (b, F), (b, b) -> (b, d)
        """Stores the map to the leading principal components, and applies it."""
        values, vectors = torch.linalg.eigh(gram)
        real = values > 1e-6 * values[-1].clamp(min=1e-30)
        kept = values[real][-self.most_components :], vectors[:, real][:, -self.most_components :]
        components: Tensor = rounded(views.T @ (kept[1] * kept[0].rsqrt()).to(views.dtype))
        self.register_fitted("components", components)
        # components lean towards the LoRAs that they were taken from, above all towards few and different
        # ones; to first order this is what each would have along components of all the others
        own = gram.diagonal().unsqueeze(1) / kept[0]
        return views @ components * (1 - own).clamp(min=0).to(views.dtype)

    def _set_landmarks(self, z: Tensor, w: Tensor) -> None:
        """Stores z and w of some LoRAs, and the median squared distance."""
        rows = some_rows(z, self.most_landmarks)
        self.register_fitted("landmark_z", z[rows].contiguous())
        self.register_fitted("landmark_w", w[rows].contiguous())
        self.typical.copy_(usual_distance(z[rows]))

    @torch.no_grad()
    def solve(self, study: Study, labels: Labels) -> None:
        """Solves for one target, without a second look where that raises the loss of LoRAs not seen."""
        able = labels.beside is not None and self.most_hints > 0
        self._solve(study, labels, able and worth_it(labels, partial(self._attempt, study)))

    def _attempt(self, study: Study, trial: Trial, twice: bool) -> Tensor:
        """What is said of the LoRAs outside a trial."""
        self._solve(study, trial.labels, twice)
        parts = [part[trial.rows] for part in study.facts if part is not None]
        return self.score(self.compared(dict(zip(self.linear_names, parts, strict=False))))

    def _solve(self, study: Study, labels: Labels, twice: bool) -> None:
        """Solves all mixtures of both looks, stacks them, and adds them up into one map."""
        kernels, first = study.once((labels.key, "first"), partial(self._first, study, labels))
        look = partial(self._look, kernels, first, labels)
        looked = study.once((labels.key, "hints"), look) if twice else None
        second: tuple[Kernels, dict[str, Smoother]] | None = None
        self._empty_maps()
        if looked is not None:
            left_out = self._keep_hints(*looked)
            make = partial(self._second, *left_out, labels.groups)
            second = study.once((labels.key, "second"), make)
        smoothers = first | (second[1] if second else {})
        duals, intercept, curve = stack_ridges(list(smoothers.values()), labels)
        found = kernels.weights(share(kernels, self.mixtures, duals[: len(first)]))
        if second is not None:
            found |= second[0].weights(share(second[0], SECOND_LOOK, duals[len(first) :]))
        for name, weights in found.items():
            self.register_fitted(name, self._kept(name, weights))
        self.register_fitted("intercept", intercept)
        self.register_fitted("curve", curve)

    def _first(self, study: Study, labels: Labels) -> tuple[Kernels, dict[str, Smoother]]:
        """The kernels between the LoRAs with a label, and each mixture of them."""
        *parts, w, core = (part[labels.rows] for part in study.facts if part is not None)
        linear = dict(zip(self.linear_names, parts, strict=True))
        landmarked = self._near(linear["sizes"], w)
        among = self._near(self.get_buffer("landmark_z"), self.get_buffer("landmark_w"))
        grams = {"core": core[:, labels.rows]}
        kernels = Kernels(linear, landmarked, among, grams=grams, even="core")
        return kernels, smoothers_of(kernels, self.mixtures, labels.groups)

    def _look(
        self, kernels: Kernels, first: Mapping[str, Smoother], labels: Labels
    ) -> tuple[Hints, Hints] | None:
        """The maps to h and g, and what left-out LoRAs have; None where nothing is known to hint at."""
        if labels.beside is None or not self.most_hints:
            return None
        known = leading(labels.beside, self.most_hints)
        if not known.shape[1]:
            return None
        duals, intercept, left_out = stack_each(list(first.values()), known)
        weights = kernels.weights(share(kernels, self.mixtures, duals))
        of_layers = {name: kernels.linear[name] for name in self.blocks[0]}
        known = leading(labels.beside, self.layer_hints)
        layers = learn_layers(of_layers, self.blocks, known, labels.groups)
        return Hints(weights, intercept, left_out), layers

    def _keep_hints(self, hints: Hints, layers: Hints) -> tuple[Tensor, Tensor]:
        """Stores the maps to h and g, and those of some LoRAs; returns both of left-out LoRAs."""
        for name, weights in hints.maps.items():
            self.register_fitted("to_hint_" + name, self._kept(name, weights))
        self.register_fitted("to_hint_intercept", hints.intercepts)
        for name, weights in layers.maps.items():
            self.register_fitted("to_layers_" + name, self._kept(name, weights))
        self.register_fitted("layers_intercept", layers.intercepts)
        one, other = (x.left_out.clamp(-FARTHEST, FARTHEST).to(self.dtype) for x in (hints, layers))
        components = principal(other, LAYER_COMPONENTS)
        self.register_fitted("layer_components", components)
        rows = some_rows(one, SECOND_LANDMARKS * self.most_landmarks)
        near, layers_near = one[rows], other[rows] @ components
        self.register_fitted("landmark_hint", near)
        self.register_fitted("landmark_layers", layers_near)
        self.hint_typical.copy_(usual_distance(near))
        self.layer_typical.copy_(usual_distance(layers_near))
        return one, other

    def _kept(self, name: str, weights: Tensor) -> Tensor:
        """Weights as they are stored; those of landmarks nearly cancel, and stay wide."""
        count = sum(self.cores.widths) * weights.shape[1]
        return rounded(weights, count) if name in self.linear_names else weights

    def _second(
        self, hints: Tensor, layers: Tensor, groups: Tensor | None
    ) -> tuple[Kernels, dict[str, Smoother]]:
        """The kernels between hints, and each mixture of them."""
        linear, near = {"hint": hints, "layers": layers}, self._alike(hints, layers)
        rows = some_rows(hints, SECOND_LANDMARKS * self.most_landmarks)
        kernels = Kernels(linear, near, {name: x[rows] for name, x in near.items()})
        return kernels, smoothers_of(kernels, SECOND_LOOK, groups)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # only what was fitted to LoRAs with magnitudes has weights for them, and so has its state
        for name in OF_MAGNITUDES:
            if prefix + name in state_dict:
                self.register_fitted(name, torch.zeros(0, 0))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
