"""Which base model a LoRA finetunes, from the names and shapes of its layers alone.

One visible table, RULES: the first rule that a layer meets decides. Names are compared flattened (dots and
colons as underscores), because half of the formats flatten them, and by their endings, because prefixes
differ. A rule also says what it cannot tell apart: finetunes of one base have the same names and shapes, so
that Pony, Illustrious and SDXL itself stay one family here. What a file declares about its base is compared
elsewhere (problems.py); it decides nothing here.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from lorascope.inspect.sizes import MODELS, match_sizes

__all__ = ["RULES", "UNKNOWN", "Family", "Rule", "Shape", "family_of", "flatten"]

Shape = tuple[str, int | None, int | None]  # name, n, m; None where the file does not tell


@dataclass(frozen=True)
class Family:
    """What the layers say about the base.

    Args:
        name: the family, "unknown" where no rule is met.
        alike: what names and shapes cannot tell apart from it.
        evidence: the layer that decided.
    """

    name: str
    alike: tuple[str, ...] = ()
    evidence: str = ""


UNKNOWN = Family("unknown")


@dataclass(frozen=True)
class Kind:
    """Layers of one kind: the flattened name with the highest numbers, the first real name, n and m."""

    highest: str
    first: str
    n: int | None
    m: int | None

    def fits(self, rule: "Rule") -> bool:
        """Whether the sizes are ones that the rule counts; a size that is not known never is."""
        return (not rule.m or self.m in rule.m) and (not rule.n or self.n in rule.n)

    @property
    def sized(self) -> bool:
        """Whether the file tells its sizes."""
        return self.n is not None and self.m is not None


@dataclass(frozen=True)
class Rule:
    """A family, and the layers that only its models have.

    Args:
        family: its name.
        pattern: what a flattened name must hold (a regular expression, searched).
        m: the input widths that count, any if empty.
        n: the same of the output width.
        alike: what has the same names and shapes.
    """

    family: str
    pattern: str
    m: tuple[int, ...] = ()
    n: tuple[int, ...] = ()
    alike: tuple[str, ...] = ()


UNET = r"(?:down|up|input|output|mid|middle)_blocks?_(?:\d+_)?"
SD1_KIN = ("Stable Diffusion 1.4, 1.5 and their finetunes",)
SD2_KIN = ("Stable Diffusion 2.0, 2.1 and their finetunes",)
SDXL_KIN = ("SDXL 1.0", "Pony", "Illustrious", "NoobAI", "Animagine", "Kolors", "other finetunes")
FLUX_KIN = ("FLUX.1 dev", "schnell", "Kontext", "Krea", "Chroma")
WAN_KIN = ("Wan 2.1", "Wan 2.2 high noise", "Wan 2.2 low noise", "VACE", "Fun")
FLUX_DOUBLE = r"double_blocks_\d+_(?:img|txt)_(?:attn|mlp|mod)"

RULES: tuple[Rule, ...] = (
    # image and video: UNets, told by the width of the text that they attend to
    Rule("AnimateDiff", r"motion_modules_\d+"),
    Rule("SDXL", UNET + r"\S*attn2_(?:processor_)?to_[kv](?:_lora)?$", m=(2048,), alike=SDXL_KIN),
    Rule("SDXL refiner", UNET + r"\S*attn2_(?:processor_)?to_[kv](?:_lora)?$", m=(1280,)),
    Rule("SD2", UNET + r"\S*attn2_(?:processor_)?to_[kv](?:_lora)?$", m=(1024,), alike=SD2_KIN),
    Rule("SD1", UNET + r"\S*attn2_(?:processor_)?to_[kv](?:_lora)?$", m=(768,), alike=SD1_KIN),
    Rule("SDXL", UNET + r"\S*transformer_blocks_[2-9]_", m=(640, 1280, 2048, 2560, 5120), alike=SDXL_KIN),
    Rule("SDXL", r"^(?:lora_te2_|text_encoder_2_)\S*_(?:self_attn|mlp)_", m=(1280, 5120),
         alike=(*SDXL_KIN, "Stable Diffusion 3 (its second text encoder)")),
    Rule("SD2", r"^(?:lora_te_|text_encoder_)text_model_", m=(1024, 4096), alike=SD2_KIN),
    Rule("SD1", r"^(?:lora_te_)text_model_", m=(768, 3072), alike=SD1_KIN),
    Rule("SD1", r"^unet_\d+$", m=(768,), alike=SD1_KIN),  # cloneofsimo: numbers for names
    Rule("SD2", r"^unet_\d+$", m=(1024,), alike=SD2_KIN),
    Rule("SD1 or SD2", UNET + r"\S*attn1_\S*to_[qkv]", m=(320,), alike=(*SD1_KIN, *SD2_KIN)),
    Rule("SD1 or SD2", UNET + r"\S*proj_in$", m=(320,), alike=(*SD1_KIN, *SD2_KIN)),
    # transformers
    Rule("SD3", r"joint_blocks_\d+_(?:x|context)_block_",
         m=(1536, 6144), alike=("SD3 medium", "SD3.5 medium")),
    Rule("SD3", r"joint_blocks_\d+_(?:x|context)_block_",
         m=(2432, 9728), alike=("SD3.5 large", "large turbo")),
    Rule("SD3", r"(?<!single_)transformer_blocks_\d+_attn_add_[qkv]_proj$", m=(1536,),
         alike=("SD3 medium", "SD3.5 medium")),
    Rule("SD3", r"(?<!single_)transformer_blocks_\d+_attn_add_[qkv]_proj$", m=(2432,),
         alike=("SD3.5 large", "large turbo")),
    Rule("AuraFlow", r"joint_transformer_blocks_\d+_"),
    Rule("Chroma", r"distilled_guidance_layer_"),
    Rule("FLUX.2", FLUX_DOUBLE, m=(6144, 18432), alike=("FLUX.2 dev",)),
    Rule("FLUX.2", r"single_transformer_blocks_\d+_attn_to_qkv_mlp_proj"),
    Rule("HunyuanVideo", r"double_blocks_\d+_(?:img|txt)_mlp_fc[12]"),
    Rule("HunyuanVideo", r"(?:individual_token_refiner|token_refiner_refiner_blocks)"),
    Rule("HunyuanVideo", r"double_blocks_(?:19|[2-9]\d)_|single_blocks_(?:3[89]|[4-9]\d)_",
         m=(3072, 12288, 15360)),
    Rule("Qwen-Image", r"(?<!single_)transformer_blocks_\d+_(?:img|txt)_(?:mlp|mod)_",
         alike=("Qwen-Image", "Qwen-Image-Edit")),
    Rule("Flux", FLUX_DOUBLE,
         m=(3072, 12288), alike=(*FLUX_KIN, "HunyuanVideo where few blocks are adapted")),
    Rule("Flux", r"double_blocks_\d+_processor_\w+_lora\d", m=(3072,), alike=FLUX_KIN),
    Rule("Flux", r"single_transformer_blocks_\d+_", m=(3072, 12288, 15360), alike=FLUX_KIN),
    Rule("Flux", r"(?:^|_)single_blocks_\d+_(?:linear[12]|modulation)", m=(3072, 15360), alike=FLUX_KIN),
    Rule("Flux", r"(?<!single_)transformer_blocks_\d+_(?:ff_context_net_|norm1_context_)",
         m=(3072, 12288), alike=FLUX_KIN),
    Rule("Qwen-Image", r"(?<!single_)transformer_blocks_(?:19|[2-5]\d)_attn_(?:to|add)_", m=(3072,),
         alike=("Qwen-Image", "Qwen-Image-Edit")),
    Rule("Flux or Qwen-Image", r"(?<!single_)transformer_blocks_\d+_attn_(?:to|add)_", m=(3072,),
         alike=(*FLUX_KIN, "Qwen-Image")),
    Rule("Wan", r"(?:^|_)blocks_\d+_(?:cross|self)_attn_(?:[qkvo]|[kv]_img)$",
         m=(1536, 3072, 5120), alike=WAN_KIN),
    Rule("Wan", r"(?:^|_)blocks_\d+_attn1_to_(?:[qkv]|out_0)$", m=(1536, 5120), alike=WAN_KIN),
    Rule("HunyuanDiT", r"(?:^|_)blocks_\d+_attn[12]_to_[qkv]$", m=(1408,)),
    Rule("Cosmos-Predict2", r"(?:^|_)blocks_\d+_(?:cross|self)_attn_(?:[qkv]|output)_proj$",
         alike=("Anima", "Cosmos-Predict2")),
    Rule("HiDream", r"(?:double|single)_stream_blocks_\d+_"),
    Rule("Z-Image", r"(?:^|_)layers_\d+_attention_(?:qkv|to_[qkv]|out|to_out_0)$", m=(3840,)),
    Rule("Lumina 2", r"(?:^|_)layers_\d+_attention_(?:qkv|out)$|(?:^|_)layers_\d+_attn_to_[qkv]$",
         m=(2304,)),
    Rule("PixArt", r"transformer_blocks_\d+_attn[12]_to_[qkv]$", m=(1152,)),
    Rule("Sana", r"transformer_blocks_\d+_attn[12]_to_[qkv]$", m=(2240,)),
    Rule("CogVideoX", r"transformer_blocks_\d+_attn1_to_[qkv]$", m=(1920, 3072)),
    Rule("LTX-Video", r"transformer_blocks_\d+_attn[12]_to_[qkv]$", m=(2048, 4096)),
    # language, speech and vision, by names; what shares Llama's names is told by its sizes (sizes.py)
    Rule("Mixtral", r"layers_\d+_block_sparse_moe_"),
    Rule("Qwen MoE", r"layers_\d+_mlp_(?:shared_expert|experts_\d+_(?:gate|up|down)_proj)"),
    Rule("Whisper", r"decoder_layers_\d+_encoder_attn_[qkv]_proj", alike=("Whisper", "BART", "M2M100")),
    Rule("Phi-3", r"layers_\d+_self_attn_qkv_proj|layers_\d+_mlp_gate_up_proj"),
    Rule("Phi", r"layers_\d+_self_attn_dense$|layers_\d+_self_attn_Wqkv|layers_\d+_mixer_Wqkv"),
    Rule("GPT-NeoX", r"layers_\d+_attention_(?:query_key_value|dense)$",
         alike=("Pythia", "OpenCALM", "Dolly", "StableLM alpha")),
    Rule("Falcon or BLOOM", r"h_\d+_self_attention_(?:query_key_value|dense)$", alike=("Falcon", "BLOOM")),
    Rule("ChatGLM", r"layers_\d+_self_attention_(?:query_key_value|dense)$"),
    Rule("GPT-2", r"h_\d+_(?:attn_c_attn|attn_c_proj|mlp_c_fc|mlp_c_proj)$",
         alike=("GPT-2", "StarCoder", "first Qwen")),
    Rule("GPT-J", r"h_\d+_attn_(?:[qkv]|out)_proj$", alike=("GPT-J", "CodeGen")),
    Rule("OPT", r"decoder_layers_\d+_(?:self_attn_[qkv]_proj|self_attn_out_proj|fc[12])$",
         alike=("OPT", "BART")),
    Rule("MPT", r"blocks_\d+_(?:attn_Wqkv|ffn_(?:up|down)_proj)"),
    Rule("InternLM2", r"layers_\d+_(?:attention_wqkv|attention_wo|feed_forward_w[123])$"),
    Rule("torchtune", r"^layers_\d+_(?:attn_(?:[qkv]|output)_proj|mlp_w[123])$",
         alike=("any model of torchtune's spelling",)),
    Rule("T5", r"block_\d+_layer_\d+_(?:SelfAttention|EncDecAttention|DenseReluDense)_"),
    Rule("DeBERTa", r"layer_\d+_attention_self_(?:query_proj|key_proj|value_proj|in_proj)$"),
    Rule("DistilBERT", r"layer_\d+_attention_(?:q|k|v|out)_lin$"),
    Rule("BERT-like", r"layer_\d+_attention_(?:self_(?:query|key|value)|output_dense)$",
         alike=("BERT", "RoBERTa", "ELECTRA", "XLM-R")),
    Rule("ViT", r"layer_\d+_attention_attention_(?:query|key|value)$", alike=("ViT", "DeiT", "DINOv2")),
    Rule("CLIP", r"(?:text|vision)_model_encoder_layers_\d+_(?:self_attn|mlp)_",
         alike=("the text encoder of SD1, SDXL, SD3 or Flux", "CLIP itself")),
)  # fmt: skip

BLOCK = re.compile(r"(?:^|_)layers_(\d+)_(?:self_attn|mlp)_([a-z]+_proj)$")
SEPARATORS = str.maketrans(".:", "__")
NUMBERS = re.compile(r"(\d+)")
LLAMA_LIKE = "Llama-like"
MOST_NAMED = 3


def flatten(name: str) -> str:
    """The name with underscores for dots and colons."""
    return name.translate(SEPARATORS)


def family_of(layers: Iterable[Shape]) -> Family:
    """The family of the base that layers of these names and shapes belong to.

    Args:
        layers: name, n and m of each; a width that the file does not tell is None and contradicts nothing,
            but layers of known size are asked first.

    Example:
        >>> family_of([("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k", 320, 768)]).name
        'SD1'
    """
    return decide(tuple(layers))


@lru_cache(maxsize=256)  # a collection holds few sets of layers, and many files of each
def decide(layers: tuple[Shape, ...]) -> Family:
    """The same, once per set of layers."""
    found = kinds(layers)
    for rule, pattern in compiled():
        for kind in found:
            if kind.fits(rule) and pattern.search(kind.highest):
                size = "" if kind.n is None or kind.m is None else f" ({kind.n} x {kind.m})"
                return Family(rule.family, rule.alike, f"{kind.first}{size}")
    return by_size(found) or by_name([kind for kind in found if not kind.sized])


def by_name(found: Sequence[Kind]) -> Family:
    """All families that layers of unknown size may be of."""
    fitting = [
        (rule, kind)
        for rule, pattern in compiled()
        for kind in found
        if pattern.search(kind.highest)
    ]
    if not fitting:
        return UNKNOWN
    names = list(dict.fromkeys(rule.family for rule, _ in fitting))
    alike = dict.fromkeys(one for rule, _ in fitting for one in rule.alike)
    return Family(" or ".join(names[:MOST_NAMED]), tuple(alike), fitting[0][1].first)


def by_size(found: Sequence[Kind]) -> Family | None:
    """The family among models of Llama's names, told by widths; "Llama-like" for sizes of none known.

    None where no layer has such a name.
    """
    named = [(match, kind) for kind in found if (match := BLOCK.search(kind.highest))]
    if not named:
        return None
    first = named[0][1].first
    sizes = [
        (int(match[1]), match[2], kind.n, kind.m)
        for match, kind in named
        if kind.n is not None and kind.m is not None
    ]
    models = match_sizes(sizes)
    if not models:
        return Family(LLAMA_LIKE, ("Llama", "Mistral", "Qwen", "Gemma", "of no known size"), first)
    families = list(dict.fromkeys(MODELS[model][0] for model in models))
    name = " or ".join(families) if len(families) <= MOST_NAMED else LLAMA_LIKE
    return Family(name, models, f"{first} and the sizes of {len(sizes)} kinds of layer")


def kinds(layers: Iterable[Shape]) -> list[Kind]:
    """Layers whose flattened names differ only in numbers, of one size, as one of the highest numbers."""
    found: dict[tuple[object, ...], tuple[list[str], str]] = {}
    for name, n, m in layers:
        parts = NUMBERS.split(flatten(name))
        key = (n, m, *parts[::2])
        before = found.get(key)
        if before is None:
            found[key] = (parts, name)
            continue
        for place in range(1, len(parts), 2):
            one, other = before[0][place], parts[place]
            if (len(other), other) > (len(one), one):
                before[0][place] = other
    return [
        Kind("".join(parts), first, *key[:2])  # type: ignore[arg-type]
        for key, (parts, first) in found.items()
    ]


@cache
def compiled() -> tuple[tuple[Rule, re.Pattern[str]], ...]:
    """The table with its patterns compiled, once."""
    return tuple((rule, re.compile(rule.pattern)) for rule in RULES)
