"""Adapters of real shapes at once: the whole of it at small sizes, and the shapes themselves."""

import json

import pytest
import torch
from speed.zoo_bases import MINIATURES, SHAPES
from speed.zoo_images import matrix_peak
from speed.zoo_shapes import main, operations_of, run, search, table, tried

from lorascope.zoo.factory.recipe import usual_dtype

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def test_the_whole_of_it_at_small_sizes(tmp_path, capsys):
    main(["--tiny", "--most", "2", "--steps", "1", "--json", str(tmp_path / "shapes.json")])
    found = json.loads((tmp_path / "shapes.json").read_text())
    assert [shape["name"] for shape in found["shapes"]] == list(SHAPES)
    for shape in found["shapes"]:
        assert len(shape["alone"]) == 3
        best = max(way["rate"] for way in shape["alone"].values())
        assert [row["count"] for row in shape["together"]] == [1, 2]
        for row in shape["together"]:
            assert row["ratio"] == pytest.approx(row["rate"] / best)
            operations = shape["operations_of_a_step"]
            assert row["share"] == pytest.approx(operations * row["rate"] / shape["matrix_peak"])
        assert (shape["fit_at_once"], shape["memory_full"]) == (2, False)
    assert table(found) in capsys.readouterr().out


def test_without_a_gpu_one_line_says_so(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    main([])
    assert capsys.readouterr().out.strip().count("\n") == 0


def test_the_largest_number_is_searched_to_a_quarter():
    for holds in range(60):
        asked = []
        found, full = search(
            lambda count, holds=holds, asked=asked: asked.append(count) or count <= holds, 48
        )
        assert full == (holds < 48)
        assert found <= min(holds, 48) <= found + max(1, found // 4)
        assert len(asked) == len(set(asked)) <= 10


def test_a_full_memory_is_no_row():
    def full():
        raise torch.OutOfMemoryError

    from speed.clock import Clock

    assert tried(Clock(), full, 3) is None


def test_operations_are_those_of_the_base_and_grow_with_the_rows():
    from dataclasses import replace

    shape = MINIATURES["qwen2-1.5b"]
    few, many = (
        operations_of(replace(shape, rows=rows).together("cpu", usual_dtype())) for rows in (8, 16)
    )
    assert many == 2 * few
    config = shape.shape.config
    width, inner = config["hidden_size"], config["intermediate_size"]
    block = width * (2 * width + 2 * width // 2) + 3 * width * inner
    forward = 2 * 8 * shape.tokens * config["num_hidden_layers"] * block
    assert forward < few < 3 * forward


def test_the_true_shapes_are_the_published():
    assert SHAPES["qwen2-1.5b"].shape.config["num_hidden_layers"] == 28
    assert SHAPES["sd14"].shape.unet["cross_attention_dim"] == 768
    assert {shape.spec.rank for shape in SHAPES.values()} == {4}


def test_a_peak_is_measured():
    assert matrix_peak(torch.float32) > 1e8


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_on_a_gpu_memory_is_counted():
    found = run("cuda", tiny=True, most=2, steps=2)
    assert all(row["peak_bytes"] > 0 for shape in found["shapes"] for row in shape["together"])
