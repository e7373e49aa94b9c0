import pytest

from lorascope.zoo.families.arc import ArcFamily
from tests.zoo.stand_ins import write_arc, write_language_base


@pytest.fixture(scope="package")
def arc_folder(tmp_path_factory):
    return write_arc(tmp_path_factory.mktemp("arc"))


@pytest.fixture(scope="package", params=["qwen2", "llama"])
def family(request, arc_folder, tmp_path_factory):
    base = write_language_base(tmp_path_factory.mktemp("bases") / request.param, request.param)
    # a tiny random model learns only at rates that would ruin a big one
    ranges = {"learning_rate": {"log_uniform": [1e-3, 3e-2]}}
    return ArcFamily(base, arc_folder, seed=1, ranges=ranges)
