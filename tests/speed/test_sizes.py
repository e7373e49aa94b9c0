"""GPT-3 sizes: the paper's shapes, a row from a process of its own, and the picture."""

import torch
from speed.clock import Clock
from speed.sizes import QUICK, SIZES, alone, draw, held_by, measured


def test_the_sizes_are_gpt3s():
    assert [size.name for size in SIZES] == [
        "125M",
        "350M",
        "760M",
        "1.3B",
        "2.7B",
        "6.7B",
        "13B",
        "175B",
    ]
    largest = SIZES[-1].signature
    assert (len(largest), largest.layers[0].n) == (96, 12288)


def test_a_row_has_time_and_memory_and_is_drawn(tmp_path):
    clock = Clock(repeats=1, patience=0.1)
    rows = [measured(clock, size, model) for size in QUICK for model in ("gl_net", "fusion")]
    for row in rows:
        assert min(row.read, row.forward, row.alone, row.model_bytes) > 0
        assert row.lora_bytes == 4 * 4 * 2 * row.layers * row.width
    draw({"rows": [vars(row) for row in rows]}, tmp_path / "sizes.png")
    assert (tmp_path / "sizes.png").stat().st_size > 5000


def test_the_largest_moment_of_a_call_is_counted():
    numbers = torch.ones(2**23)  # 32 MB
    held = held_by(lambda: (numbers + 1) * 2, "cpu")
    assert 60e6 < held < 80e6  # the sum and its double at once


def test_each_row_has_a_process_of_its_own():
    row = alone(Clock(repeats=1, patience=0.1), QUICK[0], "gl_net")
    assert row.size == QUICK[0].name
