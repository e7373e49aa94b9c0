"""LoHa, LoKr and LoCon with a middle in every dialect that can hold them: the same LoRA, in native factors.

And fused projections, split where the factors allow it, against the updates that LyCORIS' own functions give.
"""

import itertools

import pytest
import torch
from lycoris.functional.locon import diff_weight as locon
from lycoris.functional.loha import diff_weight as loha
from lycoris.functional.lokr import diff_weight as lokr
from safetensors.torch import save_file

from lorascope.core import Hadamard, Kronecker, LowRank
from lorascope.io import read_lora, write_lora
from tests.io.test_dialects import COMFY, KOHYA, LYCORIS, SGM, Q

NAME = f"unet.{Q}"
PREFIXES = {
    "kohya": KOHYA[NAME],
    "kohya, sgm names": SGM[NAME],
    "lycoris prefix": LYCORIS[NAME],
    "comfy": COMFY[NAME],
}
ALPHA = 3.0


def drawn(shapes):
    draw = torch.Generator().manual_seed(0)
    return {slot: torch.randn(shape, generator=draw) for slot, shape in shapes.items()}


SHAPES = {
    "loha": {"hada_w1_a": (12, 2), "hada_w1_b": (2, 18), "hada_w2_a": (12, 2), "hada_w2_b": (2, 18)},
    "loha of a high rank": {"hada_w1_a": (12, 4), "hada_w1_b": (4, 18), "hada_w2_a": (12, 4),
                            "hada_w2_b": (4, 18)},
    "lokr": {"lokr_w1": (3, 3), "lokr_w2_a": (4, 2), "lokr_w2_b": (2, 6)},
    "lokr, both decomposed": {"lokr_w1_a": (3, 2), "lokr_w1_b": (2, 3), "lokr_w2_a": (4, 2),
                              "lokr_w2_b": (2, 6)},
    "locon with a middle": {"lora_down.weight": (2, 18, 1, 1), "lora_mid.weight": (2, 2, 3, 3),
                            "lora_up.weight": (12, 2, 1, 1)},
}  # fmt: skip
KINDS = {"loha": Hadamard, "lokr": Kronecker, "loco": LowRank}
CASES = [(algorithm, a, b) for algorithm in SHAPES for a, b in itertools.combinations(PREFIXES, 2)]


def update_of(algorithm, tensors, alpha, rank):
    """What LyCORIS' own function gives."""
    get = tensors.get
    scale = torch.tensor(alpha / rank)
    if algorithm.startswith("loha"):
        w = [get(f"hada_w{k}_{x}") for k in "12" for x in "ba"]
        return loha(*w, None, None, gamma=scale)
    if algorithm.startswith("lokr"):
        w = [get(f"lokr_w{k}{x}") for k in "12" for x in ("", "_a", "_b")]
        return lokr(*w, None, gamma=alpha)  # which divides by the rank itself
    down, middle, up = (get(f"lora_{x}.weight") for x in ("down", "mid", "up"))
    return locon(down, up, middle, gamma=alpha / rank)


def saved(algorithm, dialect, folder):
    tensors = drawn(SHAPES[algorithm]) | {"alpha": torch.tensor(ALPHA)}
    path = folder / f"{dialect}.safetensors"
    save_file({f"{PREFIXES[dialect]}.{slot}": t for slot, t in tensors.items()}, path)
    return path


@pytest.mark.parametrize(("algorithm", "a", "b"), CASES)
def test_two_dialects_one_lora(tmp_path, algorithm, a, b):
    first, second = (read_lora(saved(algorithm, dialect, tmp_path)) for dialect in (a, b))
    assert list(first) == list(second) == [NAME]
    assert type(first[NAME]) is type(second[NAME]) is KINDS[algorithm[:4]]
    torch.testing.assert_close(first[NAME].dense_weight(), second[NAME].dense_weight())
    assert first.provenance.scales == second.provenance.scales
    assert {lora.provenance.outcome for lora in (first, second)} == {"exact"}


@pytest.mark.parametrize("algorithm", SHAPES)
def test_the_update_is_that_of_lycoris_and_is_written_as_it_is(tmp_path, algorithm):
    lora = read_lora(saved(algorithm, "kohya", tmp_path))
    rank = 4 if algorithm == "loha of a high rank" else 2
    expected = update_of(algorithm, drawn(SHAPES[algorithm]), ALPHA, rank)
    error = (lora[NAME].dense_weight() - expected.reshape(lora[NAME].dense_weight().shape)).norm()
    assert float(error / expected.norm()) < 1e-5
    again = read_lora(write_lora(lora, tmp_path / "again.safetensors", format="kohya"))
    assert type(again[NAME]) is type(lora[NAME])
    torch.testing.assert_close(again[NAME].dense_weight(), lora[NAME].dense_weight())
    assert again.provenance.scales == lora.provenance.scales
    pairs = read_lora(write_lora(lora, tmp_path / "peft"))
    torch.testing.assert_close(pairs[NAME].dense(), lora[NAME].dense(), atol=1e-5, rtol=1e-4)


BLOCK = "double_blocks.0.img_attn.qkv"
PARTS = [f"transformer.transformer_blocks.0.attn.to_{x}" for x in "qkv"]
FUSED = {
    "loha": {"hada_w1_a": (48, 2), "hada_w1_b": (2, 16), "hada_w2_a": (48, 2), "hada_w2_b": (2, 16)},
    "lokr": {"lokr_w1": (6, 4), "lokr_w2_a": (8, 2), "lokr_w2_b": (2, 4)},
    "lokr, both decomposed": {"lokr_w1_a": (3, 2), "lokr_w1_b": (2, 4), "lokr_w2_a": (16, 2),
                              "lokr_w2_b": (2, 4)},
}  # fmt: skip


@pytest.mark.parametrize("algorithm", FUSED)
@pytest.mark.parametrize(
    "prefix", [f"lora_unet_{BLOCK.replace('.', '_')}", f"diffusion_model.{BLOCK}"]
)
def test_fused_projections_are_split_in_their_native_factors(tmp_path, algorithm, prefix):
    tensors = drawn(FUSED[algorithm])
    path = tmp_path / "file.safetensors"
    save_file({f"{prefix}.{slot}": tensor for slot, tensor in tensors.items()}, path)
    lora = read_lora(path)
    assert sorted(lora) == sorted(PARTS)
    assert {type(update) for update in lora.layers.values()} == {KINDS[algorithm[:4]]}
    found = torch.cat([lora[name].dense() for name in PARTS])
    torch.testing.assert_close(found, update_of(algorithm, tensors, 2, 2), atol=1e-5, rtol=1e-4)


def test_a_kronecker_product_that_straddles_the_parts_stays_fused(tmp_path):
    slots = drawn({"lokr_w1": (4, 4), "lokr_w2_a": (12, 2), "lokr_w2_b": (2, 4)})
    path = tmp_path / "file.safetensors"
    save_file({f"diffusion_model.{BLOCK}.{slot}": tensor for slot, tensor in slots.items()}, path)
    lora = read_lora(path)
    assert list(lora) == [f"transformer.{BLOCK}"]
    assert lora.provenance.outcome == "exact"
    assert any(note.startswith("fused: 1 modules") for note in lora.provenance.notes)
    torch.testing.assert_close(lora[f"transformer.{BLOCK}"].dense(), update_of("lokr", slots, 2, 2))
