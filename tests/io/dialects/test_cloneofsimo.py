"""Layers by index, from safetensors and from a pickled list: the same LoRA."""

import pytest
import torch
from safetensors.torch import save_file

from lorascope.errors import FormatError
from lorascope.io import read_lora

DRAW = torch.Generator().manual_seed(0)
PAIRS = [(torch.randn(6, 2, generator=DRAW), torch.randn(2, 4, generator=DRAW)) for _ in range(12)]
NAMED = {
    f"unet:{i}:{part}": t
    for i, pair in enumerate(PAIRS)
    for part, t in zip(("up", "down"), pair, strict=True)
}
METADATA = {"unet": '["CrossAttention"]', "unet:0:rank": "2", "<s1>": "<embed>"}


def test_the_update_is_up_times_down(tmp_path):
    save_file(NAMED | {"<s1>": torch.ones(8)}, tmp_path / "a.safetensors", METADATA)
    lora = read_lora(tmp_path / "a.safetensors")
    assert list(lora) == [f"unet.{i}" for i in range(12)]
    for i, (up, down) in enumerate(PAIRS):
        torch.testing.assert_close(lora[f"unet.{i}"].dense(), up @ down)
    assert lora.side["<s1>"].kind == "token"
    assert lora.provenance.config == {"unet": '["CrossAttention"]'}
    assert lora.provenance.outcome == "ambiguous"
    assert lora.provenance.ambiguities[0].startswith("order: ")


@pytest.mark.parametrize(
    ("name", "component"), [("a.pt", "unet"), ("a.text_encoder.pt", "text_encoder")]
)
def test_a_pickled_list_is_the_same(tmp_path, name, component):
    torch.save([torch.nn.Parameter(t) for pair in PAIRS for t in pair], tmp_path / name)
    lora = read_lora(tmp_path / name, allow_pickle=True)
    for i, (up, down) in enumerate(PAIRS):
        torch.testing.assert_close(lora[f"{component}.{i}"].dense(), up @ down)


def test_an_odd_list_and_strange_keys(tmp_path):
    torch.save([t for pair in PAIRS for t in pair][:-1], tmp_path / "a.pt")
    with pytest.raises(FormatError, match="expected down beside it"):
        read_lora(tmp_path / "a.pt", allow_pickle=True)
    save_file(NAMED | {"riddle": torch.ones(1)}, tmp_path / "a.safetensors")
    lora = read_lora(tmp_path / "a.safetensors")
    assert lora.provenance.outcome == "part"
    assert "'riddle'" in lora.provenance.left[0]
