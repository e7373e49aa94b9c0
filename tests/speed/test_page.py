"""docs/speed.md follows from the JSON of what was measured: same input, same bytes."""

import json

import pytest
from speed.clock import Clock
from speed.evaluation import machine, place, write_json
from speed.page import MEASURED, PAGE, PARTS, PICTURE, main, measure, measured, page, picture
from speed.standard import Part, Standard
from speed.workloads import PARTS as EVALUATED

ROW = {"size": "125M", "layers": 12, "width": 768, "parameters": 1.25e8, "batch": 64, "read": 1e-5}
ROW |= {"forward": 2e-5, "alone": 1e-3, "lora_bytes": 300_000, "model_bytes": 10**6}


def run_of(part: str, device: str = "cpu") -> dict:
    where = machine(Clock()) | {"device": device, "load_before": 0.5}
    return {"part": part, "machine": where, "quick": False, "load_after": 0.25}


def evaluated(part: str = "qwen", device: str = "cpu") -> dict:
    ways = {"latency": 1e-3, "files": 1e-4, "shards": 1e-5, "resident": 1e-6}
    prediction = {"model": "fusion", "trust": False, **ways}
    standard = Standard.added_up("questions", "bfloat16", 8, (Part("block", 0.5, 20),))
    predictions = [prediction, prediction | {"trust": True, "resident": 0}]
    workload = {"title": "a base", "standards": [standard.to_json()], "predictions": predictions}
    return run_of(part, device) | {"workloads": [workload]}


def read() -> dict:
    found = {"loras": 2, "megabytes": 1.0, "read": 1e-3, "forward": {"fusion": 2e-3}}
    found |= {"ratio": {"fusion": 2.0}}
    rows = [
        found | {"title": "Llama", "target": {"fusion": 3.0}},
        found | {"title": "a smaller one", "target": {}},
    ]
    return run_of("reading") | {"reading": rows, "workloads": []}


def sized(device: str = "cpu") -> dict:
    rows = [ROW | {"model": model, "work_bytes": 5} for model in ("gl_net", "fusion")]
    return run_of("sizes", device) | {"rows": rows}


def fitted(**more) -> dict:
    facts = {"model": "fusion", "zoo": "faces", "loras": 3900, "learned_from": 2766, "layers": 10}
    facts |= {"rank": 4, "targets": ["a", "b"], "read": 0.5, "at_most": 300.0}
    return run_of("fit") | facts | {"wall": 200.0, "processor": 700.0} | more


def folder() -> dict:
    files = {"model.safetensors": 39_999_000, "predictor.json": 1000}
    row = {"target": "score", "outputs": 1, "landmarks": 1000, "bytes": 40_000_000, "files": files}
    facts = {"loras": 1088, "layers": 64, "rank": 4, "seconds": 100.0, "at_most": 5e7}
    return run_of("folder") | facts | {"rows": [row]}


def test_the_page_says_what_was_extrapolated_and_how_much_faster():
    text = page([evaluated()])
    assert "~10 s" in text
    assert "1 ms (10,000 x)" in text
    assert "20 x 500 ms (block)" in text
    assert (
        "| fusion, with trust | 1 ms (10,000 x) | 100 us (100,000 x) | 10 us (1,000,000 x) |  |"
        in text
    )


def test_floors_are_those_of_a_gpu_and_are_not_claimed_without_one():
    without = page([evaluated()])
    assert "not run: no GPU (CPU: 10,000 x)" in without
    assert "reached" not in without
    assert "## On a GPU" in without
    both = page([evaluated(), evaluated(device="cuda")])
    assert "10,000 x, reached" in both
    assert "evaluation, on a GPU" in both
    assert "## On a GPU" not in both
    assert "no GPU" not in both


def test_reading_sizes_and_folder_have_their_tables():
    text = page([folder(), sized(), read()])
    assert "2.00 x | 3 x, reached" in text
    assert "| a smaller one: 2 LoRAs, 1 MB | one read of the factors | 1 ms |  |  |" in text
    assert "2.00 x |  |" in text  # nothing is asked of it
    assert "| 125M | 12 x 768 | 300 kB | 1 ms | 20 us of 64 | 2.0 | 1 MB | 5 B |" in text
    assert "| score (1) | 1,000 | 40,000,000, reached |" in text
    assert text.index("one read") < text.index("figure 5") < text.index("40,000,000")
    assert "sizes-cuda.png" in page([sized("cuda")])
    assert picture(sized()) == PICTURE


def test_the_cheapest_evaluation_is_compared_and_the_others_stand_beside_it():
    found = evaluated()
    cheap = Standard.added_up("letters", "float32", 8, (Part("block", 0.5, 10),), "by letters")
    found["workloads"][0]["standards"].append(cheap.to_json())
    found["workloads"][0]["standards"][0]["way"] = "by options"
    text = page([found])
    assert "| a base | ~5 s by letters | fusion | 1 ms (5,000 x) |" in text
    assert "|  | (~10 s by options) | fusion, with trust |" in text
    assert "CPU: 5,000 x" in text
    assert text.index("| a base | letters |") < text.index("|  | questions |")


def test_the_time_to_learn_has_its_row():
    text = page([fitted()])
    assert "| fusion, 2 targets of faces | 3,900, of these 2,766 to learn from |" in text
    assert "| 200 s | 700 s | 300 s, reached |" in text
    assert "on all targets of the zoo of faces at once (10 layers, rank 4): a, b." in text
    assert "300 s, not reached" in page([fitted(wall=301.0)])
    shared = fitted(wall=900.0, processor=500.0)
    shared["machine"] |= {"shared": True, "cores": 2}
    assert "300 s, reached" in page([shared])


def test_processor_time_is_told():
    assert "other work" not in page([evaluated()])
    found = evaluated()
    found["machine"]["shared"] = True
    text = page([found])
    assert "other work" in text
    assert "processor time |" in text


def test_order_and_spelling_of_the_input_do_not_matter():
    parts = [evaluated("tiny"), evaluated("qwen"), read(), sized(), folder(), fitted()]
    again = json.loads(json.dumps(parts[::-1]))
    assert page(parts) == page(again)


def test_the_command_writes_page_and_picture_twice_the_same(tmp_path):
    for found in (evaluated(), sized()):
        write_json(place(tmp_path / "measured", "cpu", found["part"]), found)
    target = tmp_path / "docs" / "speed.md"
    written = []
    for _ in range(2):
        main(["--out", str(tmp_path / "measured"), "--page", str(target)])
        written.append([target.read_bytes(), (target.parent / "pictures/sizes.png").read_bytes()])
    assert written[0] == written[1]
    assert written[0][0].decode() == page([evaluated(), sized()])


def test_what_was_measured_is_not_measured_again(tmp_path, capsys):
    for part in PARTS:
        write_json(place(tmp_path, "cpu", part), run_of(part))
    measure(PARTS, "cpu", ["--quick"], again=False, out=tmp_path)
    assert capsys.readouterr().out.count("measured before") == len(PARTS)
    assert PARTS[: len(EVALUATED)] == tuple(EVALUATED)


def test_the_page_in_the_manual_is_that_of_what_was_measured():
    if not measured(MEASURED):
        pytest.skip("nothing was measured yet")
    assert PAGE.read_text(encoding="utf-8") == page(measured(MEASURED))
