"""`Plan`: the parts of a diffusers UNet2DConditionModel by name, in the order that `network.py` takes.

It holds names, no numbers. Parts that the planner does not know are refused by name, so that nothing of a
UNet is ever left out.

    plan = levels down, the middle, levels up; a level = resnets, transformers, a sampler
"""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from lorascope.errors import DataError

__all__ = [
    "Attention",
    "Block",
    "Conv",
    "Level",
    "Norm",
    "Plan",
    "Planner",
    "Resnet",
    "Spatial",
]


@dataclass(frozen=True)
class Norm:
    """A group norm; a layer norm has no groups."""

    name: str
    groups: int
    epsilon: float


@dataclass(frozen=True)
class Conv:
    """A convolution; padding -1 pads one row and one column at the end alone."""

    name: str
    stride: int
    padding: int


@dataclass(frozen=True)
class Resnet:
    """Two convolutions with the time between them, beside a shortcut."""

    name: str
    norms: tuple[Norm, Norm]
    convs: tuple[Conv, Conv]
    shortcut: Conv | None
    scale: float


@dataclass(frozen=True)
class Attention:
    """Attention to itself or to the text."""

    name: str
    heads: int
    scale: float


@dataclass(frozen=True)
class Block:
    """A transformer block: attention to itself, to the text, feed-forward; a norm before each."""

    name: str
    norms: tuple[Norm, Norm, Norm]
    attentions: tuple[Attention, Attention]
    activation: str  # geglu, gelu or tanh


@dataclass(frozen=True)
class Spatial:
    """A transformer over the places of an image."""

    name: str
    norm: Norm
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Level:
    """Resnets, each followed by a transformer where there is one, and a sampler at the end."""

    resnets: tuple[Resnet, ...]
    spatials: tuple[Spatial | None, ...]
    sampler: Conv | None


@dataclass(frozen=True)
class Plan:
    """A whole UNet."""

    first: Conv
    down: tuple[Level, ...]
    middle: Level | None
    up: tuple[Level, ...]
    norm: Norm | None
    last: Conv

    @property
    def levels(self) -> tuple[Level, ...]:
        """All levels, in the order that a picture goes through them."""
        return (*self.down, *([] if self.middle is None else [self.middle]), *self.up)


class Planner:
    """Reads the plan off the modules; knows at the end which modules it has not used."""

    def __init__(self, unet: nn.Module):
        self.unet, self.used = unet, {"time_proj", "time_embedding.act", "conv_act"}

    def plan(self) -> Plan:
        """The plan of the whole UNet."""
        unet: Any = self.unet
        if type(unet).__name__ != "UNet2DConditionModel" or unet.config.act_fn not in (
            "silu",
            "swish",
        ):
            self.refuse(type(unet).__name__, f"a {type(unet).__name__}")
        if unet.config.center_input_sample or unet.config.timestep_post_act:
            self.refuse("config", "center_input_sample or timestep_post_act")
        for name in ("time_embedding.linear_1", "time_embedding.linear_2"):
            self.use(name, nn.Linear)
        plan = Plan(
            self.conv("conv_in"),
            tuple(self.level(f"down_blocks.{i}") for i in range(len(unet.down_blocks))),
            None if unet.mid_block is None else self.level("mid_block"),
            tuple(self.level(f"up_blocks.{i}") for i in range(len(unet.up_blocks))),
            None if unet.conv_norm_out is None else self.norm("conv_norm_out"),
            self.conv("conv_out"),
        )
        self.check_all_used()
        return plan

    def level(self, name: str) -> Level:
        """A block of a UNet: resnets, transformers, at most one sampler."""
        block: Any = self.unet.get_submodule(name)
        spatials: list[Spatial | None] = [
            None if each is None else self.spatial(f"{name}.attentions.{i}")
            for i, each in enumerate(getattr(block, "attentions", None) or [])
        ]
        resnets = tuple(self.resnet(f"{name}.resnets.{i}") for i in range(len(block.resnets)))
        if name == "mid_block":  # its first resnet has no transformer behind it
            spatials = [None, *spatials]
        spatials += [None] * (len(resnets) - len(spatials))
        return Level(resnets, tuple(spatials), self.sampler(name, block))

    def sampler(self, name: str, block: Any) -> Conv | None:
        """The convolution that changes the size at the end of a level."""
        for kind in ("downsamplers", "upsamplers"):
            found = getattr(block, kind, None)
            if found is None:
                continue
            path = f"{name}.{kind}.0"
            sampler: Any = self.unet.get_submodule(path)
            changes = getattr(sampler, "use_conv", False)
            plain = len(found) == 1 and changes and sampler.norm is None
            if not plain or getattr(sampler, "use_conv_transpose", False):
                self.refuse(path, type(sampler).__name__)
            conv = self.conv(f"{path}.conv")
            pads_end = kind == "downsamplers" and sampler.padding == 0
            return replace(conv, padding=-1) if pads_end else conv
        return None

    def resnet(self, name: str) -> Resnet:
        """A ResnetBlock2D that adds the time."""
        module: Any = self.unet.get_submodule(name)
        plain = (
            type(module).__name__ == "ResnetBlock2D"
            and module.time_embedding_norm == "default"
            and module.upsample is None
            and module.downsample is None
            and not module.skip_time_act
            and module.time_emb_proj is not None
        )
        if not plain:
            self.refuse(name, type(module).__name__)
        self.used |= {f"{name}.nonlinearity", f"{name}.dropout"}
        self.use(f"{name}.time_emb_proj", nn.Linear)
        shortcut = None if module.conv_shortcut is None else self.conv(f"{name}.conv_shortcut")
        return Resnet(
            name,
            (self.norm(f"{name}.norm1"), self.norm(f"{name}.norm2")),
            (self.conv(f"{name}.conv1"), self.conv(f"{name}.conv2")),
            shortcut,
            float(module.output_scale_factor),
        )

    def spatial(self, name: str) -> Spatial:
        """A Transformer2DModel on images."""
        module: Any = self.unet.get_submodule(name)
        if type(module).__name__ != "Transformer2DModel" or not module.is_input_continuous:
            self.refuse(name, type(module).__name__)
        for part in ("proj_in", "proj_out"):
            self.use(f"{name}.{part}", nn.Linear if module.use_linear_projection else nn.Conv2d)
        count = len(module.transformer_blocks)
        blocks = (self.block(f"{name}.transformer_blocks.{i}") for i in range(count))
        return Spatial(name, self.norm(f"{name}.norm"), tuple(blocks))

    def block(self, name: str) -> Block:
        """A BasicTransformerBlock with both attentions."""
        module: Any = self.unet.get_submodule(name)
        plain = (
            type(module).__name__ == "BasicTransformerBlock"
            and module.norm_type == "layer_norm"
            and module.pos_embed is None
            and module.attn2 is not None
            and not module.only_cross_attention
            and not getattr(module, "double_self_attention", False)
        )
        if not plain:
            self.refuse(name, type(module).__name__)
        gate: Any = module.ff.net[0]
        known = {("GEGLU", None): "geglu", ("GELU", "none"): "gelu", ("GELU", "tanh"): "tanh"}
        activation = known.get((type(gate).__name__, getattr(gate, "approximate", None)))
        if activation is None:
            self.refuse(f"{name}.ff.net.0", type(gate).__name__)
        for part in ("ff.net.0.proj", "ff.net.2"):
            self.use(f"{name}.{part}", nn.Linear)
        self.used |= {f"{name}.ff.net.1", f"{name}.ff.net.3"}
        return Block(
            name,
            (
                self.norm(f"{name}.norm1"),
                self.norm(f"{name}.norm2"),
                self.norm(f"{name}.norm3"),
            ),
            (self.attention(f"{name}.attn1"), self.attention(f"{name}.attn2")),
            str(activation),
        )

    def attention(self, name: str) -> Attention:
        """An Attention without norms or masks of its own."""
        module: Any = self.unet.get_submodule(name)
        absent = ("group_norm", "spatial_norm", "norm_q", "norm_k", "norm_cross", "add_k_proj")
        plain = (
            all(getattr(module, part, None) is None for part in absent)
            and not module.residual_connection
            and module.rescale_output_factor == 1
            and module.to_k is not None
        )
        if not plain:
            self.refuse(name, type(module).__name__)
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            self.use(f"{name}.{part}", nn.Linear)
        self.used.add(f"{name}.to_out.1")
        return Attention(name, int(module.heads), float(module.scale))

    def norm(self, name: str) -> Norm:
        """A group norm or a layer norm with weights."""
        module = self.use(name, nn.GroupNorm, nn.LayerNorm)
        if module.weight is None or module.bias is None:
            self.refuse(name, "a norm without weights")
        return Norm(name, int(getattr(module, "num_groups", 0)), float(module.eps))

    def conv(self, name: str) -> Conv:
        """A plain convolution."""
        module = self.use(name, nn.Conv2d)
        square = module.stride[0] == module.stride[1] and module.padding[0] == module.padding[1]
        if not square or module.groups != 1 or module.dilation != (1, 1):
            self.refuse(name, str(module))
        return Conv(name, int(module.stride[0]), int(module.padding[0]))

    def use(self, name: str, *kinds: type[nn.Module]) -> Any:
        """The module of a name, of one of the kinds; it counts as used."""
        module = self.unet.get_submodule(name)
        if not isinstance(module, kinds):
            self.refuse(name, type(module).__name__)
        self.used.add(name)
        return module

    def check_all_used(self) -> None:
        """Refuse a UNet with parts that the plan leaves out."""
        for name, module in self.unet.named_modules():
            leaf = name and not list(module.children())
            if leaf and name not in self.used and not isinstance(module, nn.Identity):
                self.refuse(name, type(module).__name__)

    def refuse(self, name: str, found: str) -> None:
        """Say which part is not supported."""
        raise DataError(
            f"freezing a UNet: {name} is {found}, which is not supported; expected the parts of "
            "Stable Diffusion 1 and 2 (ResnetBlock2D, Transformer2DModel, convolutions). Try such "
            "a UNet2DConditionModel"
        )
