"""Where a zoo is built: which devices there are, what moves to one, and what a full memory does.

Without a GPU the device is one that is not there (`tests/zoo/elsewhere.py`): the whole of a build runs on it,
and whatever a GPU would refuse is raised.
"""

import json
import logging

import pytest
import torch

from lorascope.errors import DataError
from lorascope.zoo.engine.language.engine import LanguageEngine
from lorascope.zoo.factory import build
from lorascope.zoo.factory.build import _fit, build_zoo, make_group, start_work, usable
from lorascope.zoo.factory.family import place_family
from lorascope.zoo.factory.plan import Group
from lorascope.zoo.factory.rebuild import rebuild_loras
from tests.zoo.conftest import make_base, make_job
from tests.zoo.elsewhere import ELSEWHERE, Elsewhere
from tests.zoo.planted_family import SPEC, PlantedFamily, save_base

CPU = torch.device("cpu")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return PlantedFamily(save_base(tmp_path_factory.mktemp("base")))


@pytest.mark.parametrize("name", ["meta", "mps", "abacus", "cuda:99", ""])
def test_a_device_that_torch_cannot_use_is_refused(name, family, tmp_path):
    with pytest.raises(DataError, match=f"device '{name}'.*Expected 'cpu', 'cuda' or 'cuda:N'"):
        usable(name)
    with pytest.raises(DataError, match="device"):
        build_zoo(family, 2, tmp_path / "zoo", device=name)
    assert not (tmp_path / "zoo").exists()


def test_the_processor_is_usable():
    assert usable("cpu") == CPU


class Roomy(LanguageEngine):
    """The engine of languages on a device whose memory holds so many slots."""

    holds = 2

    def __init__(self):
        self.tried = []

    def fit(self, base, specs, jobs, slots):
        self.tried.append(slots)
        if slots > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().fit(base, specs, jobs, slots)


def test_a_full_memory_halves_what_trains_at_once_and_the_adapters_are_the_same(caplog):
    base, jobs = make_base(), [make_job(seed) for seed in range(5)]
    whole = LanguageEngine().fit(base, SPEC, jobs, 16)
    engine = Roomy()
    with caplog.at_level(logging.WARNING):
        halved = _fit(engine, base, [SPEC] * 5, jobs, 16)
    assert engine.tried == [16, 8, 4, 2]
    assert "Going on with 2 slots at once" in caplog.text
    assert torch.allclose(halved.rows, whole.rows, rtol=1e-6)
    assert torch.equal(halved.steps, whole.steps)


def test_a_memory_that_holds_not_even_one_is_told():
    engine = Roomy()
    engine.holds = 0
    with pytest.raises(torch.OutOfMemoryError):
        _fit(engine, make_base(), [SPEC], [make_job(0)], 3)
    assert engine.tried == [3, 1]


class Narrow(PlantedFamily):
    """Planted LoRAs on a device with little memory."""

    engine = Roomy()


def test_a_zoo_is_built_whole_where_memory_is_short(family, tmp_path):
    options = {"processes": 0, "compile": False, "progress": False, "dtype": torch.float32}
    short = build_zoo(Narrow(family.base_folder), 5, tmp_path / "short", slots=8, **options)
    plain = build_zoo(family, 5, tmp_path / "plain", slots=8, **options)
    assert 8 in Narrow.engine.tried
    assert short.recipe == plain.recipe  # how many fitted is no part of it
    for row in range(5):
        ours, theirs = (zoo.lora(row) for zoo in (short, plain))
        assert all(float(ours[n].cosine(theirs[n])) > 0.9999 for n in theirs)


class Placed(PlantedFamily):
    """A family with parts of its own, which are to lie on the device before any job is made."""

    def place(self, device):
        vars(self)["at"] = device

    def job(self, index):
        assert vars(self)["at"] == CPU
        return super().job(index)


def test_a_familys_parts_are_placed_before_its_jobs_are_made(family):
    placed = Placed(family.base_folder)
    work = start_work(placed, torch.float32, False, 1)
    assert len(work(Group(0, (0, 1))).loras) == 2
    place_family(placed, ELSEWHERE)
    assert vars(placed)["at"] == ELSEWHERE
    place_family(family, ELSEWHERE)  # has no parts of its own


def test_a_pipelines_parts_go_to_the_device(tmp_path):
    from lorascope.zoo.families.celeba import CelebaFamily
    from tests.zoo.stand_ins import write_celeba, write_clip, write_diffusion

    folders = (
        write_diffusion(tmp_path / "diffusion"),
        write_celeba(tmp_path / "celeba"),
        write_clip(tmp_path / "clip"),
    )
    pictures = CelebaFamily(*folders, photographs=3)
    place_family(pictures, CPU)
    assert "parts" not in vars(pictures)  # nothing is loaded to stay where it is
    place_family(pictures, ELSEWHERE)
    parts = pictures.parts
    for part in (parts.vae, parts.text_encoder, parts.clip):
        assert {p.device for p in part.parameters()} == {ELSEWHERE}
    assert parts.mean.device == ELSEWHERE


def test_a_group_is_made_on_one_device(family):
    with Elsewhere():
        made = make_group(
            LanguageEngine().load(family.base_folder, torch.float32, False, ELSEWHERE),
            family,
            Group(0, (0, 1, 2)),
            slots=2,
        )
    assert [row["id"] for row in made.rows] == [0, 1, 2]
    assert all(pair.u.device == CPU for lora in made.loras for pair in lora.layers.values())


def test_a_whole_build_on_another_device(family, tmp_path, monkeypatch):
    """One process, no kernels compiled for the processor, everything on the device that was asked for."""
    monkeypatch.setattr(build, "usable", lambda name: torch.device(name))
    with Elsewhere():
        zoo = build_zoo(family, 3, tmp_path / "zoo", device="meta", progress=False, slots=1)
    assert len(zoo) == 3
    start = json.loads((zoo.path / "build.jsonl").read_text().splitlines()[0])
    assert (start["device"], start["processes"], start["compiled"]) == ("meta", 0, False)


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_clusters_gpus_are_its_workers(name, family, tmp_path, monkeypatch):
    """The machine of the command needs none; each worker sees its own alone, whatever number was given."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = {"device": name, "cluster": "ray", "progress": False, "slots": 1}
    with pytest.raises(DataError, match=r"no GPU on this machine.*Try --dtype bfloat16"):
        build_zoo(family, 2, tmp_path / "zoo", **asked)
    assert not (tmp_path / "zoo").exists()

    def run(tasks, start, *, gpus, **others):
        *_, device, exact_steps = start.args
        assert (device, exact_steps, gpus) == (torch.device("cuda"), 4, 1)
        work = build.start_work(family, torch.float32, False, 1)
        yield from ((task, work(task)) for task in tasks)

    monkeypatch.setattr(build, "run_on_ray", run)
    zoo = build_zoo(family, 2, tmp_path / "zoo", dtype=torch.bfloat16, **asked)
    assert (len(zoo), zoo.recipe["engine"]["dtype"]) == (2, "bfloat16")
    with pytest.raises(DataError, match="device 'abacus'"):
        build_zoo(family, 2, tmp_path / "zoo", **{**asked, "device": "abacus"})


def test_rebuilding_refuses_the_same_devices(family, tmp_path):
    zoo = build_zoo(family, 1, tmp_path / "zoo", processes=0, compile=False, progress=False)
    with pytest.raises(DataError, match="device 'abacus'"):
        rebuild_loras(zoo.path, [0], family=family, device="abacus")
    (made,) = rebuild_loras(zoo.path, [0], family=family, device="cpu")
    assert made.comparison.verdict == "same bytes"


@pytest.mark.gpu
@GPU
def test_a_zoo_of_a_gpu_is_rebuilt_on_both(family, tmp_path):
    options = {"progress": False, "dtype": torch.float32}
    zoo = build_zoo(family, 6, tmp_path / "zoo", device="cuda", **options)
    for device in ("cuda", "cpu"):
        for made in rebuild_loras(zoo.path, [0, 1, 2], family=family, device=device):
            assert made.comparison.verdict in ("same bytes", "close")


@pytest.mark.gpu
@GPU
def test_the_real_memory_of_a_gpu_runs_out(tmp_path):
    wide = make_base(dtype=torch.float32, hidden_size=512, intermediate_size=2048)
    base = LanguageEngine().load(save_model(wide, tmp_path), torch.float32, False, usable("cuda"))
    jobs = [make_job(seed, examples=64, batch_size=8) for seed in range(256)]
    one = LanguageEngine().fit(base, SPEC, jobs[:1], 1)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(4 * torch.cuda.max_memory_allocated() / total)
    try:
        fitted = _fit(LanguageEngine(), base, [SPEC] * len(jobs), jobs, 256)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert torch.allclose(fitted.rows[0], one.rows[0], rtol=1e-3, atol=1e-5)


def save_model(model, folder):
    model.save_pretrained(folder)
    return folder
