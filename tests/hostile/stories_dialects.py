"""Files whose tensors do not make the modules of a dialect."""

from tests.hostile.refusals import Refusal
from tests.hostile.shapes import module, zeros

Q = "lora_unet_mid_block_attentions_0_proj_in"
SGM = "lora_unet_middle_block_1_proj_in"
TO_Q = "transformer.transformer_blocks.0.attn.to_q"
LLAMA = "model.layers.0.self_attn.q_proj"
SPLIT = module(Q, lora_down__weight=(2, 6), lora_up__weight=(4, 2))
HALF = module(Q, hada_w1_a=(4, 2), hada_w1_b=(2, 6))

DIALECTS: dict[str, Refusal] = {
    "layer spelled in two ways": Refusal(
        "FormatError",
        "two of its keys name the layer 'unet.mid_block.attentions.0.proj_in'",
        zeros(SPLIT | {key.replace(Q, SGM): shape for key, shape in SPLIT.items()}),
    ),
    "difference spelled in two ways": Refusal(
        "FormatError",
        "two of its keys name the tensor",
        zeros(module(Q, diff=(4, 4)) | module(SGM, diff=(4, 4))),
    ),
    "factor spelled in two ways": Refusal(
        "FormatError",
        "both name down of",
        zeros(module(TO_Q, lora_A__weight=(2, 6), lora_A__default__weight=(2, 6))),
    ),
    "whole model": Refusal(
        "FormatError",
        "none of its 1 keys names a factor",
        zeros({"model.layers.0.self_attn.q_proj.weight": (4, 4)}),
    ),
    "metadata of diffusers that is a list": Refusal(
        "FormatError",
        "lora_adapter_metadata is no table",
        zeros(
            module(TO_Q, lora_A__weight=(2, 6), lora_B__weight=(4, 2)), lora_adapter_metadata="[]"
        ),
    ),
    "alpha without factors": Refusal(
        "FormatError", "expected factors beside it", zeros(SPLIT | module(SGM + "_x", alpha=()))
    ),
    "down without up": Refusal(
        "FormatError",
        "expected up beside it",
        zeros(SPLIT | module(SGM.replace("in", "out"), lora_down__weight=(2, 6))),
    ),
    "factor of one axis": Refusal(
        "FormatError",
        "do not go together",
        zeros(module(Q, lora_down__weight=(2,), lora_up__weight=(4, 2))),
    ),
    "up and down of two ranks": Refusal(
        "FormatError",
        r"down \[2, 6\] and up \[4, 3\]",
        zeros(module(Q, lora_down__weight=(2, 6), lora_up__weight=(4, 3))),
    ),
    "middle of another rank": Refusal(
        "FormatError",
        r"down \[2, 6, 1, 1\] and mid",
        zeros(
            module(
                Q,
                lora_down__weight=(2, 6, 1, 1),
                lora_up__weight=(4, 2, 1, 1),
                lora_mid__weight=(3, 3, 3, 3),
            )
        ),
    ),
    "alpha of two values": Refusal(
        "FormatError", r"alpha \[2\]", zeros(SPLIT | module(Q, alpha=(2,)))
    ),
    "LoHa of two sizes": Refusal(
        "FormatError",
        "hada_w2_a .* do not go together",
        zeros(HALF | module(Q, hada_w2_a=(5, 2), hada_w2_b=(2, 6))),
    ),
    "LoHa of two ranks": Refusal(
        "FormatError",
        r"hada_w1_a \[4, 3\]",
        zeros(module(Q, hada_w1_a=(4, 3), hada_w1_b=(2, 6), hada_w2_a=(4, 2), hada_w2_b=(2, 6))),
    ),
    "LoHa with a core of another rank": Refusal(
        "FormatError",
        "hada_t1",
        zeros(
            module(
                Q,
                hada_w1_a=(2, 4),
                hada_w1_b=(2, 6),
                hada_t1=(3, 3, 3, 3),
                hada_w2_a=(2, 4),
                hada_w2_b=(2, 6),
            )
        ),
    ),
    "LoHa that unfolds": Refusal(
        "HostileFileError",
        "expands to",
        zeros(
            module(
                Q,
                hada_w1_a=(1, 4),
                hada_w1_b=(1, 20000),
                hada_t1=(1, 1, 20000),
                hada_w2_a=(1, 4),
                hada_w2_b=(1, 6),
            )
        ),
    ),
    "LoKr whose first factor does not multiply": Refusal(
        "FormatError",
        r"lokr_w1_a \[2, 2\]",
        zeros(module(Q, lokr_w1_a=(2, 2), lokr_w1_b=(3, 3), lokr_w2=(2, 2))),
    ),
    "LoKr whose second factor does not multiply": Refusal(
        "FormatError",
        r"lokr_w2_a \[2, 2\]",
        zeros(module(Q, lokr_w1=(2, 2), lokr_w2_a=(2, 2), lokr_w2_b=(3, 3))),
    ),
    "LoKr with a core of another rank": Refusal(
        "FormatError",
        "lokr_t2",
        zeros(module(Q, lokr_w1=(2, 2), lokr_w2_a=(2, 4), lokr_w2_b=(2, 4), lokr_t2=(3, 3, 3, 3))),
    ),
    "LoKr of a giant matrix": Refusal(
        "HostileFileError",
        "1048576|2097152",
        zeros(module(Q, lokr_w1=(2048, 1), lokr_w2=(1024, 1))),
    ),
    "experts of MLX that differ in number": Refusal(
        "FormatError",
        r"expected \(experts, r, m\)",
        zeros(module(LLAMA, lora_a=(2, 1, 3), lora_b=(3, 3, 1))),
        name="adapters.safetensors",
    ),
    "experts of MLX without number": Refusal(
        "HostileFileError",
        "too many experts",
        zeros(module(LLAMA, lora_a=(50001, 1, 1), lora_b=(50001, 1, 1))),
        name="adapters.safetensors",
    ),
    "scale of MLX that is a text": Refusal(
        "FormatError",
        "lora_parameters.scale is '20'",
        zeros(module(LLAMA, lora_a=(3, 1), lora_b=(1, 3))),
        name="adapters.safetensors",
        config=b'{"fine_tune_type": "lora", "lora_parameters": {"scale": "20"}}',
    ),
}
