import pytest

from lorascope.io.names.canonical import Namer
from lorascope.io.names.diffusion import TRANSFORMERS
from lorascope.io.names.original import MODULES, architecture_of, originals, to_sgm
from lorascope.io.names.unet import from_sgm
from tests.io.networks import matrices, unet


def test_sgm_and_back():
    for name in matrices(unet()):
        module = to_sgm(name)
        assert module is not None, name
        assert from_sgm(module) == name


@pytest.mark.parametrize(
    "path",
    ["", "mid_block.x", "down_blocks.0.downsamplers.0.op", "up_blocks.a", "mid_block.resnets.0.x"],
)
def test_what_sgm_has_not(path):
    assert to_sgm(path) is None


@pytest.mark.parametrize("architecture", MODULES)
def test_every_module_of_the_tables_has_its_way_back(architecture):
    """All layers that a table knows, spelled by one set of modules that reads as them."""
    table = TRANSFORMERS[architecture]
    outside, blocks = MODULES[architecture]
    modules = [
        *outside,
        *(f"{kind}.7.{rest}" for kind, inside in blocks.values() for rest in inside),
    ]
    layers = [name for module in modules if (place := table(module)) for name in place.names]
    found = originals(layers, architecture)
    assert found is not None
    assert {name for place in found.values() for name in place.names} == set(layers)
    namer = Namer.of(found)
    for module, place in found.items():
        assert namer.place(module).names == tuple(f"transformer.{name}" for name in place.names)
        assert "processor" not in module


def test_a_layer_that_no_table_has():
    assert originals(["transformer_blocks.0.attn.to_q", "transformer_blocks.0.new"], "flux") is None


@pytest.mark.parametrize(
    ("paths", "width", "architecture"),
    [
        (["single_transformer_blocks.37.attn.to_q"], 16, "flux"),
        (["single_transformer_blocks.38.attn.to_q"], 16, None),  # HunyuanVideo has so many
        (
            ["single_transformer_blocks.0.attn.to_q", "context_embedder.token_refiner.proj"],
            16,
            None,
        ),
        (["transformer_blocks.0.attn.to_q"], 1536, "sd3"),
        (["transformer_blocks.0.attn.to_q"], 3072, None),
        (["transformer_blocks.0.attn2.to_q"], 16, "sd3"),
        (["transformer_blocks.0.attn1.to_q"], 16, None),
        (["transformer_blocks.0.attn1.to_q", "transformer_blocks.0.norm2.linear_1"], 16, "cosmos"),
        (["blocks.3.attn2.to_k"], 16, "wan"),
        (["blocks.3.mlp.fc1"], 16, None),
        (["transformer_blocks.0.txt_mod.1"], 16, "qwen"),
        ([], 16, None),
    ],
)
def test_architectures_by_what_others_have_not(paths, width, architecture):
    assert architecture_of(paths, lambda _: width) == architecture
