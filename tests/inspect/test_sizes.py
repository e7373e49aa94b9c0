import pytest

from lorascope.inspect.sizes import MODELS, match_sizes


def layers_of(widths):
    """q, k and the MLP of the first and the last block."""
    shapes = {
        "q_proj": (widths.query, widths.hidden),
        "k_proj": (widths.key, widths.hidden),
        "o_proj": (widths.hidden, widths.query),
        "down_proj": (widths.hidden, widths.inner),
    }
    return [
        (block, word, n, m) for block in (0, widths.blocks - 1) for word, (n, m) in shapes.items()
    ]


@pytest.mark.parametrize("model", MODELS)
def test_every_model_matches_itself(model):
    assert model in match_sizes(layers_of(MODELS[model][1]))


def test_one_block_too_many_is_a_contradiction():
    widths = MODELS["Qwen2/2.5-1.5B"][1]
    layers = layers_of(widths)
    assert match_sizes(layers) == ("Qwen2/2.5-1.5B",)
    assert match_sizes([*layers, (widths.blocks, "q_proj", 1536, 1536)]) == ()


def test_two_models_of_one_size_stay_two():
    assert match_sizes([(31, "q_proj", 4096, 4096), (0, "k_proj", 1024, 4096)]) == (
        "Llama-3-8B",
        "Mistral-7B",
        "Qwen3-8B",
    )
    assert match_sizes([(31, "gate_proj", 14336, 4096)]) == ("Llama-3-8B", "Mistral-7B")


def test_words_that_are_not_measured_say_nothing():
    assert match_sizes([(0, "c_attn", 4096, 4096)]) == ()
