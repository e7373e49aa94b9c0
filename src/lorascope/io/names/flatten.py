"""Undoing kohya's underscores: `down_blocks_0_attn1_to_q` -> `down_blocks.0.attn1.to_q`.

Turning dots into underscores loses which underscores were dots. With the words of an architecture's modules the
dots come back: the longest word that fits is taken, and a name with any other word is left alone.
"""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

__all__ = ["VOCABULARIES", "unflatten"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


VOCABULARIES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "unet": _words(
            "down_blocks up_blocks mid_block attentions resnets downsamplers upsamplers transformer_blocks "
            "attn1 attn2 to_q to_k to_v to_out ff net proj proj_in proj_out conv conv1 conv2 conv_in conv_out "
            "conv_shortcut time_emb_proj time_embedding add_embedding linear_1 linear_2 norm norm1 norm2 norm3 "
            "conv_norm_out add_k_proj add_q_proj add_v_proj"
        ),
        "sgm": _words(
            "input_blocks middle_block output_blocks in_layers out_layers emb_layers skip_connection op conv "
            "transformer_blocks attn1 attn2 to_q to_k to_v to_out ff net proj proj_in proj_out norm norm1 "
            "norm2 norm3 time_embed label_emb out"
        ),
        "clip": _words(
            "text_model encoder layers self_attn q_proj k_proj v_proj out_proj mlp fc1 fc2 layer_norm1 "
            "layer_norm2 final_layer_norm embeddings token_embedding position_embedding text_projection"
        ),
        "t5": _words(
            "encoder block layer SelfAttention EncDecAttention DenseReluDense q k v o wi wo wi_0 wi_1 "
            "layer_norm final_layer_norm shared embed_tokens"
        ),
        "llm": _words(
            "model layers self_attn q_proj k_proj v_proj o_proj mlp gate_proj up_proj down_proj "
            "input_layernorm post_attention_layernorm q_norm k_norm norm embed_tokens lm_head"
        ),
        "flux": _words(
            "double_blocks single_blocks img_attn txt_attn qkv proj norm key_norm query_norm img_mlp txt_mlp "
            "img_mod txt_mod lin linear linear1 linear2 modulation final_layer adaLN_modulation guidance_in "
            "time_in vector_in in_layer out_layer img_in txt_in"
        ),
        "flux_diffusers": _words(
            "transformer_blocks single_transformer_blocks attn to_q to_k to_v to_out add_q_proj add_k_proj "
            "add_v_proj to_add_out ff ff_context net proj proj_mlp proj_out norm norm1 norm1_context norm_out "
            "linear norm_q norm_k norm_added_q norm_added_k x_embedder context_embedder time_text_embed "
            "timestep_embedder text_embedder guidance_embedder linear_1 linear_2 attn2 img_mlp txt_mlp img_mod "
            "txt_mod img_in txt_in pos_embed"
        ),
        "sd3": _words(
            "joint_blocks x_block context_block attn attn2 qkv proj mlp fc1 fc2 adaLN_modulation x_embedder "
            "context_embedder t_embedder y_embedder final_layer linear ln_q ln_k"
        ),
        "wan": _words(
            "blocks self_attn cross_attn q k v o k_img v_img norm_q norm_k norm3 ffn head text_embedding "
            "time_embedding time_projection img_emb proj patch_embedding"
        ),
        "cosmos": _words(
            "blocks self_attn cross_attn q_proj k_proj v_proj output_proj mlp layer1 layer2 final_layer linear "
            "adaln_modulation adaln_modulation_self_attn adaln_modulation_cross_attn adaln_modulation_mlp "
            "t_embedder t_embedding_norm x_embedder proj"
        ),
    }
)
LONGEST = max(word.count("_") + 1 for words in VOCABULARIES.values() for word in words)


@lru_cache(maxsize=1 << 14)
def unflatten(flat: str, vocabulary: str) -> str | None:
    """The dotted path, None if a part of it is no word of the vocabulary.

    Example:
        >>> unflatten("mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0", "unet")
        'mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0'
    """
    words, parts = VOCABULARIES[vocabulary], flat.split("_")
    found, place = [], 0
    while place < len(parts):
        if parts[place].isdecimal():
            found.append(parts[place])
            place += 1
            continue
        for count in range(min(LONGEST, len(parts) - place), 0, -1):
            word = "_".join(parts[place : place + count])
            if word in words:
                found.append(word)
                place += count
                break
        else:
            return None
    return ".".join(found)
