import pytest

from lorascope.inspect.outline import outline_of, split_key

# key of the down half, key of the up half, name of the module
PAIRS = [
    ("base_model.model.q.lora_A.weight", "base_model.model.q.lora_B.weight", "base_model.model.q"),
    ("a.q.lora_A.default.weight", "a.q.lora_B.default.weight", "a.q"),
    ("a.e.lora_embedding_A", "a.e.lora_embedding_B", "a.e"),
    ("lora_unet_a_b.lora_down.weight", "lora_unet_a_b.lora_up.weight", "lora_unet_a_b"),
    ("a.attn1.processor.to_q_lora.down.weight", "a.attn1.processor.to_q_lora.up.weight", "a.attn1.to_q"),
    ("unet.a.to_q.lora.down.weight", "unet.a.to_q.lora.up.weight", "unet.a.to_q"),
    ("t.q_proj.lora_linear_layer.down.weight", "t.q_proj.lora_linear_layer.up.weight", "t.q_proj"),
    ("unet:3:down", "unet:3:up", "unet:3"),
    ("layers.0.q.lora_a.weight", "layers.0.q.lora_b.weight", "layers.0.q"),
]  # fmt: skip


@pytest.mark.parametrize(("down", "up", "name"), PAIRS)
def test_pairs_are_found_in_every_spelling(down, up, name):
    (module,) = outline_of({down: (4, 8), up: (6, 4)}).modules
    assert (module.name, module.n, module.m, module.rank, module.missing) == (name, 6, 8, 4, None)


def test_mlx_keeps_its_factors_transposed():
    (module,) = outline_of({"q.lora_a": (8, 4), "q.lora_b": (4, 6)}).modules
    assert (module.n, module.m, module.rank) == (6, 8, 4)


def test_a_half_alone_is_told():
    found = outline_of({"a.lora_up.weight": (6, 4), "b.lora_down.weight": (4, 8)}).modules
    assert [(m.missing, m.rank) for m in found] == [("down", 4), ("up", 4)]


def test_convolutions_have_their_kernel():
    (one,) = outline_of(
        {"c.lora_down.weight": (4, 8, 3, 3), "c.lora_up.weight": (6, 4, 1, 1)}
    ).modules
    assert (one.n, one.m, one.kernel) == (6, 72, (3, 3))
    shapes = {
        "c.lora_down.weight": (4, 8, 1, 1),
        "c.lora_mid.weight": (4, 4, 3, 3),
        "c.lora_up.weight": (6, 4),
    }
    assert outline_of(shapes).modules[0].m == 72


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ({"hada_w1_a": (6, 2), "hada_w1_b": (2, 8), "hada_w2_a": (6, 2)}, ("loha", 6, 8, 4)),
        ({"hada_w1_a": (4, 6), "hada_w1_b": (4, 8), "hada_t1": (4, 4, 3, 3), "hada_w2_a": (4, 6)},
         ("loha", 6, 72, 6)),
        ({"hada_w1_a": (6, 2), "hada_w1_b": (2, 8)}, ("loha", None, None, None)),
        ({"lokr_w1": (2, 4), "lokr_w2": (3, 2)}, ("lokr", 6, 8, 4)),
        ({"lokr_w1": (2, 4), "lokr_w2_a": (3, 1), "lokr_w2_b": (1, 2)}, ("lokr", 6, 8, 2)),
        (
            {"lokr_w1_a": (2, 1), "lokr_w1_b": (1, 4), "lokr_w2_a": (3, 1), "lokr_w2_b": (1, 2)},
            ("lokr", 6, 8, 1),
        ),
        (
            {"lokr_w1": (2, 4), "lokr_t2": (1, 1, 3, 3), "lokr_w2_a": (1, 3), "lokr_w2_b": (1, 2)},
            ("lokr", 6, 72, 2),
        ),
        ({"oft_blocks": (4, 2, 2)}, ("oft", None, None, None)),
        ({"diff": (4, 2)}, ("whole", None, None, None)),
        ({"lokr_w1_a": (2, 1)}, ("lokr", None, None, None)),
        ({"hada_w1_a": ()}, ("loha", None, None, None)),
    ],
)  # fmt: skip
def test_other_algorithms_have_their_sizes(shapes, expected):
    (module,) = outline_of({f"m.{slot}": shape for slot, shape in shapes.items()}).modules
    assert (module.algorithm, module.n, module.m, module.rank) == expected


def test_what_is_no_factor_is_loose():
    found = outline_of({"a.bias": (3,), "<s1>": (768,), "b.alpha": (), "x": (), "": (2, 2)})
    assert found.modules == ()
    assert set(found.loose) == {"a.bias", "<s1>", "b", "x", ""}
    assert split_key("q_proj.weight") == ("q_proj.weight", None)
    assert split_key("unet:3:left") == ("unet:3:left", None)


def test_odd_shapes_break_nothing():
    found = outline_of(
        {"a.lora_down.weight": (), "a.lora_up.weight": (3,), "b.lora_A": (2, 0), "b.lora_B": (0, 2)}
    )
    assert found.modules[0].rank is None
