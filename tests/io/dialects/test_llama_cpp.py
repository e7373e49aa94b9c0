"""Adapters of llama.cpp, written by the gguf package; the update is what llama.cpp's graph adds."""

import gguf
import numpy as np
import pytest
import torch

from lorascope.errors import FormatError
from lorascope.io import read_lora, sniff

TYPES = gguf.GGMLQuantizationType
RNG = np.random.default_rng(0)
A, B = (
    RNG.standard_normal((32, 64)).astype(np.float32),
    RNG.standard_normal((96, 32)).astype(np.float32),
)


def write(path, tensors, *, alpha=8.0, architecture="qwen2", kind=TYPES.F32, general="adapter"):
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_string("general.type", general)
    writer.add_string("adapter.type", "lora")
    if alpha is not None:
        writer.add_float32("adapter.lora.alpha", alpha)
    for name, values in tensors.items():
        raw = gguf.quants.quantize(values, kind) if values.ndim > 1 else values
        writer.add_tensor(name, raw, raw_dtype=kind if values.ndim > 1 else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def graph(x, a, b, alpha):
    """llama.cpp's build_lora_mm: scale * mul_mat(b, mul_mat(a, x)), scale = alpha / rank, 1 for alpha 0."""
    return (alpha / a.shape[0] if alpha else 1.0) * (x @ a.T) @ b.T


@pytest.mark.parametrize("alpha", [8.0, 0.0])
@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [(TYPES.F32, 1e-5), (TYPES.F16, 1e-2), (TYPES.BF16, 1e-2), (TYPES.Q8_0, 2e-2)],
)
def test_the_update_is_that_of_the_graph(tmp_path, kind, tolerance, alpha):
    name = "blk.3.attn_v.weight"
    path = write(
        tmp_path / "a.gguf", {f"{name}.lora_a": A, f"{name}.lora_b": B}, kind=kind, alpha=alpha
    )
    lora = read_lora(path)
    pair = lora["model.layers.3.self_attn.v_proj"]
    expected = graph(torch.eye(64), torch.from_numpy(A), torch.from_numpy(B), alpha)
    assert (
        float((pair.to(torch.float32).matvec(torch.eye(64)) - expected).norm() / expected.norm())
        < tolerance
    )
    assert (sniff(path).format, sniff(path).container) == ("gguf", "gguf")
    assert (
        read_lora(path, dtype=torch.float64)["model.layers.3.self_attn.v_proj"].dtype
        == torch.float64
    )
    assert [line.partition(":")[0] for line in lora.provenance.ambiguities] == ["rslora"]


def test_embeddings_and_norms(tmp_path):
    tensors = {"token_embd.weight.lora_a": RNG.standard_normal((20, 4)).astype(np.float32),
               "token_embd.weight.lora_b": RNG.standard_normal((8, 4)).astype(np.float32),
               "output.weight.lora_a": A, "output.weight.lora_b": B,
               "blk.0.attn_norm.weight": np.ones(8, dtype=np.float32)}  # fmt: skip
    lora = read_lora(write(tmp_path / "a.gguf", tensors))
    a, b = (torch.from_numpy(tensors[f"token_embd.weight.lora_{x}"]) for x in "ab")
    torch.testing.assert_close(lora["model.embed_tokens"].dense(), 2 * a @ b.T)
    assert lora.provenance.kinds == {"model.embed_tokens": "embedding"}
    assert "lm_head" in lora.layers
    assert lora.side["blk.0.attn_norm.weight"].kind == "full"


def test_what_the_file_cannot_tell(tmp_path):
    tensors = {"blk.0.attn_q.weight.lora_a": A, "blk.0.attn_q.weight.lora_b": B}
    codes = lambda lora: [line.partition(":")[0] for line in lora.provenance.ambiguities]  # noqa: E731
    assert codes(read_lora(write(tmp_path / "a.gguf", tensors, architecture="llama"))) == [
        "rslora",
        "rotary",
    ]
    lora = read_lora(write(tmp_path / "b.gguf", tensors, architecture="mamba", alpha=None))
    assert codes(lora) == ["rslora", "scale", "names"]
    assert list(lora) == ["blk.0.attn_q"]


def test_models_and_halves_are_refused(tmp_path):
    tensors = {"blk.0.attn_q.weight.lora_a": A}
    with pytest.raises(FormatError, match="It is a model"):
        read_lora(write(tmp_path / "a.gguf", tensors, general="model"))
    with pytest.raises(FormatError, match="expected up beside it"):
        read_lora(write(tmp_path / "b.gguf", tensors))
    with pytest.raises(FormatError, match="alpha is nan"):
        read_lora(write(tmp_path / "c.gguf", tensors, alpha=float("nan")))
