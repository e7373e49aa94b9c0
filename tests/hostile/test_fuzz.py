"""The fuzzer's own parts: inputs that reach beyond the header, and a verdict that cannot be good by default."""

from fuzz.__main__ import seeds, verdict
from fuzz.kinds import KINDS, mend
from safetensors.torch import load

from tests.hostile.valid import NAMES


def test_a_run_that_found_nothing_is_good():
    assert verdict({"files": 100, "exact": 100}, 0, 60.0, 60) == 0


def test_a_finding_is_told():
    assert verdict({"files": 100}, 77, 3.0, 60) == 1


def test_an_end_before_its_time_is_no_success():
    assert verdict({"files": 100}, 0, 15.0, 600) == 2
    assert verdict({}, 0, 600.0, 600) == 2


def test_a_mended_file_has_the_bytes_that_its_header_asks_for():
    header = (
        b'{"a":{"dtype":"F16","shape":[2,3],"data_offsets":[5,1]},"b":{"dtype":"F32","shape":[1]}}'
    )
    found = load(mend(len(header).to_bytes(8, "little") + header))
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {"a": (2, 3), "b": (1,)}


def test_what_has_no_table_is_left_as_it_is():
    assert mend(b"GGUF") == b"GGUF"
    assert mend(bytes([2, 0, 0, 0, 0, 0, 0, 0]) + b"[]") == bytes([2, 0, 0, 0, 0, 0, 0, 0]) + b"[]"


def test_every_format_is_a_seed(tmp_path):
    corpus = seeds(tmp_path)
    numbers = {int(path.name.partition("-")[0]) for path in corpus.iterdir()}
    assert numbers == set(range(len(NAMES)))
    assert {path.read_bytes()[0] for path in corpus.iterdir()} == set(range(len(KINDS)))
