import pytest

from lorascope.inspect.names import block_of, kind_of, place_of, printable


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("model.layers.3.self_attn.q_proj", "model.layers.3"),
        ("transformer.h.11.attn.c_attn", "transformer.h.11"),
        ("model.layers.2.mlp.experts.7.w1", "model.layers.2"),
        ("unet.mid_block.attentions.0.proj_in", "unet.mid_block.attentions.0"),
        (
            "unet.up_blocks.1.attentions.2.transformer_blocks.0.ff.net.0.proj",
            "unet.up_blocks.1.attentions.2.transformer_blocks.0",
        ),
        (
            "transformer.single_transformer_blocks.20.attn.to_q",
            "transformer.single_transformer_blocks.20",
        ),
        ("stage.4.conv", "stage.4"),
        ("lm_head", "lm_head"),
        ("", ""),
    ],
)
def test_a_layer_stands_in_its_innermost_repeated_block(name, block):
    assert block_of(name) == block


def test_kind_forgets_numbers_only():
    assert kind_of("a.10.b2.0") == "a.*.b2.*"
    assert kind_of("a.²") == "a.²"  # a digit to some, but no number of a list


def test_places_sort_as_people_count():
    names = ["h.10.x", "h.2.x", "h.x", "h.1.x"]
    assert sorted(names, key=place_of) == ["h.1.x", "h.2.x", "h.10.x", "h.x"]


@pytest.mark.parametrize(
    "hostile", ["\x1b[31mred", "bell\x07", "a\u202eb", "two\nlines", "\x9b2J", "\ud800"]
)
def test_nothing_that_a_terminal_obeys_is_left(hostile):
    shown = printable(hostile)
    assert shown.isprintable()
    assert "\\" in shown


def test_ordinary_text_of_any_language_stays():
    assert printable("Ünïcode 文字 [bold]") == "Ünïcode 文字 [bold]"
