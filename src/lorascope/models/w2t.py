"""W2T: every rank direction a token, a Transformer over directions, then one over layers.

    token_lk = fuse[LN(P_l x_k); LN(Q_l y_k)] * (1 + gain(z_k)) + shift(z_k),   z = zscore_k(log1p(s_k))
    layer_l  = pool(RankTransformer(token_l1 .. token_lr)) + layer and module embeddings
    f        = MLP(pool(LayerTransformer(layer_1 .. layer_L)))

with u_l v_l^T = sum_k s_k x_k y_k^T by QR and SVD. The other way to respect the
gauge: fix it, then use any network.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.core.symmetry_kind import Symmetry
from lorascope.models.directions import Directions, LayerMaps, read_directions
from lorascope.models.heads import MLPHead
from lorascope.models.model import Features, Model
from lorascope.models.spectra import Sizes

__all__ = ["W2T", "AttentionPool"]


class AttentionPool(nn.Module):
    """Softmax-weighted sums of tokens by learned queries, side by side, then a linear map to the width."""

    def __init__(self, width: int, queries: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, width) * width**-0.5)
        self.key = nn.Linear(width, width)
        self.out = nn.Linear(queries * width, width)

    def forward(self, x: Tensor, there: Tensor, prior: Tensor | None = None) -> Tensor:
        """(b, t, d), (b, t) bool, (b, t) added to the logits -> (b, d)."""
        logits = self.key(x) @ self.queries.T * x.shape[-1] ** -0.5  # (b, t, q)
        if prior is not None:
            logits = logits + prior.unsqueeze(2)
        logits = logits.masked_fill(~there.unsqueeze(2), torch.finfo(x.dtype).min)
        weights = logits.softmax(1) * there.unsqueeze(2)
        return self.out((weights.mT @ x).flatten(1))


class W2T(Model):
    """Rank and layer Transformers over singular triples, with sign augmentation.

    Source: arXiv 2603.15990 (proposition 3.1; settings of its code). Differences: the joint sign of a pair
    follows the aggregate rule of `symmetry.canonical`, steadier than that of the largest entry; every
    direction's sign is redrawn at each training step (`flips`), where theirs does so in classification;
    their shuffling of ranks changes nothing here, since no token knows its place; the width is smaller.
    `sizes` adds standardised log spectra to the last network, which theirs lacks: the z-score within a
    layer takes the size away.
    Equation: MLP(pool(T(pool(T(token_l1 .. token_lr)) + e_l + e_module))); tokens at the head of the file.
    Under g: unchanged where the singular values of each layer differ: triples belong to u v^T, signs
    follow a rule. Among equal singular values any rotation is as good, and the answer depends on it.
    Symmetry: GL(r).
    Parameters: d sum (n + m) + 2 d^2 for tokens, 12 d^2 a Transformer layer (depth + 1 of them), 5 d^2 and
    2 d^2 for the pools, and the head's.
    Cost: O((n + m) r^2) per layer for the triples, then O(L r d (n + m + d)) per LoRA.
    Any rank. A missing layer is masked.
    """

    name: ClassVar[str] = "w2t"
    symmetry: ClassVar[Symmetry] = Symmetry.GL
    breaks: ClassVar[str] = "equal singular values"
    accepts_missing: ClassVar[bool] = True

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        flips: bool = True,
        sizes: bool = False,
    ) -> None:
        options: dict[str, Any] = {"width": width, "depth": depth, "heads": heads}
        options |= {"dropout": dropout, "flips": flips, "sizes": sizes}
        super().__init__(signature, out_features, rank=rank, options=options)
        self.flips = flips
        self.left, self.right = (LayerMaps(signature, side, width) for side in ("n", "m"))
        self.norm_left, self.norm_right = nn.LayerNorm(width), nn.LayerNorm(width)
        self.fuse = nn.Linear(2 * width, width)
        self.film = nn.Sequential(nn.Linear(1, width), nn.GELU(), nn.Linear(width, 2 * width))
        for parameter in self.film[2].parameters():
            nn.init.zeros_(parameter)  # the gain starts at 0

        def block() -> nn.TransformerEncoderLayer:
            return nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout, batch_first=True, norm_first=True
            )

        self.over_ranks, self.pool_ranks = block(), AttentionPool(width, 4)
        self.over_layers = nn.ModuleList(block() for _ in range(depth))
        self.pool_layers = AttentionPool(width, 1)
        kinds = sorted({name.split(".")[-1] for name in signature.names})
        kind = torch.tensor([kinds.index(name.split(".")[-1]) for name in signature.names])
        self.register_buffer("kind", kind, persistent=False)
        self.layer_embedding = nn.Parameter(0.02 * torch.randn(len(signature), width))
        self.kind_embedding = nn.Parameter(0.02 * torch.randn(len(kinds), width))
        self.sizes = Sizes(signature, values=rank) if sizes else None
        beside = 0 if self.sizes is None else self.sizes.width
        self.head = MLPHead(width + beside, out_features, hidden=2 * width, dropout=dropout)

    def prepare(self, batch: LoRABatch) -> None:
        """Stores statistics of the log spectra where they are read."""
        if self.sizes is not None:
            self.sizes.fit(batch)

    def features(self, batch: LoRABatch) -> Features:
        """The singular triples, and with `sizes` the standardised log spectra before them."""
        batch = batch.to(dtype=self.dtype)
        triples = read_directions(batch).pack()
        assert isinstance(triples, tuple)
        return triples if self.sizes is None else (self.sizes(batch), *triples)

    def score(self, features: Features) -> Tensor:  # (b, k)
        """Tokens, both Transformers, the network."""
        assert isinstance(features, tuple)
        triples = Directions.unpack(features if self.sizes is None else features[1:])
        real = triples.s > 0  # (b, L, r)
        layers = self._layers(self._tokens(triples, real), real, triples.s)
        there = real.any(2)
        absent = _absent(there)
        for block in self.over_layers:
            layers = block(layers * there.unsqueeze(2), src_key_padding_mask=absent)
        pooled = self.pool_layers(layers, there)
        if self.sizes is not None:
            assert isinstance(features[0], Tensor)
            pooled = torch.cat([pooled, features[0]], dim=1)
        return self.head(pooled)

    def _tokens(self, triples: Directions, real: Tensor) -> Tensor:  # (b, L, r, d)
        left, right = self.left(triples.x), self.right(triples.y)
        if self.training and self.flips:
            sign = 1 - 2 * (torch.rand_like(triples.s) < 0.5).to(left.dtype).unsqueeze(3)
            left, right = left * sign, right * sign
        token = self.fuse(torch.cat([self.norm_left(left), self.norm_right(right)], dim=3))
        gain, shift = self.film(_zscore(triples.s.log1p(), real).unsqueeze(3)).chunk(2, dim=3)
        return (token * (1 + gain) + shift) * real.unsqueeze(3)

    def _layers(self, tokens: Tensor, real: Tensor, s: Tensor) -> Tensor:  # (b, L, d)
        size, count = tokens.shape[:2]
        flat, there = tokens.flatten(0, 1), real.flatten(0, 1)
        mixed = self.over_ranks(flat, src_key_padding_mask=_absent(there))
        pooled = self.pool_ranks(mixed, there, 0.5 * s.flatten(0, 1).log1p())
        place = self.layer_embedding + self.kind_embedding[self.get_buffer("kind")]
        return pooled.view(size, count, -1) + place


def _absent(there: Tensor) -> Tensor:
    """What attention must not see; of nothing at all it sees all, since it needs one key."""
    return ~(there | ~there.any(-1, keepdim=True))


def _zscore(x: Tensor, real: Tensor) -> Tensor:  # (b, L, r) twice
    """Mean 0 and deviation 1 over the directions that are there."""
    count = real.sum(2, keepdim=True).clamp(min=1)
    mean = torch.where(real, x, 0.0).sum(2, keepdim=True) / count
    centred = torch.where(real, x - mean, 0.0)
    variance = centred.square().sum(2, keepdim=True) / count
    return centred / (variance + 1e-12).sqrt()
