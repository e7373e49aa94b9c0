"""Every hostile file is refused, by its own message, in time and without memory for what it claims."""

import contextlib
import json
import re
import time
from pathlib import Path

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lorascope import errors
from lorascope.errors import FileError, FormatError, LorascopeError
from lorascope.io.header import read_header
from lorascope.io.read import read_lora
from lorascope.io.write import write_lora
from tests.hostile.files import ADAPTERS, HEADERS, pair, write_adapter, write_header
from tests.hostile.sites import site_of, sites
from tests.hostile.stories_containers import CONTAINERS
from tests.hostile.stories_dialects import DIALECTS
from tests.hostile.stories_peft import PEFT, PLACES

SECONDS = 2.0
REFUSALS = {**DIALECTS, **CONTAINERS, **PLACES, **PEFT}


@pytest.mark.parametrize("story", HEADERS)
@pytest.mark.parametrize("ask", [read_header, read_lora])
def test_hostile_headers(story, ask, tmp_path):
    _, error, message = HEADERS[story]
    path = write_header(story, tmp_path)
    start = time.process_time()
    with pytest.raises(getattr(errors, error), match=message) as caught:
        ask(path)
    assert time.process_time() - start < SECONDS
    assert repr(str(path)) in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("story", ADAPTERS)
def test_hostile_adapters(story, tmp_path):
    *_, error, message = ADAPTERS[story]
    folder = write_adapter(story, tmp_path)
    start = time.process_time()
    with pytest.raises(getattr(errors, error), match=message) as caught:
        read_lora(folder)
    assert time.process_time() - start < SECONDS
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_the_good_file_that_the_adapters_vary_is_read(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(pair())
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "lora_alpha": 1, "r": 1}')
    lora = read_lora(tmp_path)
    assert (list(lora), lora.provenance.ambiguities) == (["m.q_proj"], ())


def test_every_story_is_told():
    text = (Path(__file__).parent / "README.md").read_text()
    classes = {story: error for story, (*_, error, _) in (*HEADERS.items(), *ADAPTERS.items())}
    classes |= {story: refusal.error for story, refusal in REFUSALS.items()}
    assert dict(re.findall(r"^- \*\*(.+?)\*\* \((\w+)\): \S", text, re.MULTILINE)) == classes


@pytest.mark.parametrize("story", REFUSALS)
def test_refusals(story, tmp_path):
    refusal = REFUSALS[story]
    path = refusal.make(tmp_path)
    start = time.process_time()
    with pytest.raises(getattr(errors, refusal.error), match=f"(?s){refusal.says}") as caught:
        refusal.ask(path)
    assert time.process_time() - start < SECONDS
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.fixture(scope="module")
def met(tmp_path_factory):
    """Site of the source -> the stories that end there."""
    found = {}
    stories = [(story, write_header, read_lora) for story in HEADERS]
    stories += [(story, write_adapter, read_lora) for story in ADAPTERS]
    stories += [
        (story, lambda _, folder, r=refusal: r.make(folder), refusal.ask)
        for story, refusal in REFUSALS.items()
    ]
    for story, write, ask in stories:
        path = write(story, tmp_path_factory.mktemp("story"))
        with pytest.raises(LorascopeError) as caught:
            ask(path)
        found.setdefault(site_of(caught.value), []).append(story)
    return found


@pytest.mark.parametrize("site", sites(), ids=str)
def test_every_refusal_has_a_story(met, site):
    """One that is new needs a file here and its sentence in README.md."""
    assert site in met, (
        f"no file meets the refusal at lines {site.first} to {site.last} of {site.file}"
    )


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_mutated_files_raise_only_our_errors(tmp_path_factory, data):
    """Flip, cut, insert anywhere in a good file: it is read, or refused with an error of the tree."""
    raw = bytearray(pair(a=(2, 3), b=(3, 2)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        action = data.draw(st.sampled_from(["set", "cut", "insert", "swap"]))
        if action == "set":
            raw[place] = data.draw(st.integers(0, 255))
        elif action == "cut":
            del raw[place : place + data.draw(st.integers(1, 8))]
        elif action == "insert":
            raw[place:place] = data.draw(
                st.sampled_from([b"9", b"{", b"]", b'"', b",", b"\0", b"-", b"1e9"])
            )
        else:
            other = data.draw(st.integers(0, len(raw) - 1))
            raw[place], raw[other] = raw[other], raw[place]
        if not raw:
            break
    path = tmp_path_factory.mktemp("mutated") / "file.safetensors"
    path.write_bytes(raw)
    with contextlib.suppress(FileError):  # any other exception fails the test
        read_lora(path)


# Groups of keys with shapes that go together, from which the test departs.
GROUPS = {
    "matrix": {"m.q.lora_A.weight": (4, 6), "m.q.lora_B.weight": (6, 4)},
    "named": {"m.k.lora_A.default.weight": (4, 6), "m.k.lora_B.default.weight": (6, 4)},
    "convolution": {"m.c.lora_A.weight": (4, 2, 3), "m.c.lora_B.weight": (6, 4, 1)},
    "embedding": {"m.e.lora_embedding_A": (4, 6), "m.e.lora_embedding_B": (6, 4)},
    "experts": {"m.x.lora_A.weight": (4, 6), "m.x.lora_B.weight": (6, 4)},
    "inner": {"m.x.base_layer.lora_A.weight": (4, 6), "m.x.base_layer.lora_B.weight": (6, 4)},
    "adalora": {"m.q.lora_E": (4, 1)},
    "kasa": {"m.q.lora_diag": (4,)},
    "dora": {"m.q.lora_magnitude_vector": (6,)},
    "biases": {"m.q.lora_B.bias": (6,), "m.q.bias": (6,)},
    "base": {"m.q.base_layer.weight": (6, 6), "m.e.base_layer.weight": (6, 6)},
    "tokens": {"m.e.token_adapter.trainable_tokens_delta": (2, 6)},
    "replaced": {
        "m.h.modules_to_save.default.weight": (6, 6),
        "m.h.original_module.weight": (6, 6),
    },
    "alpha": {"m.q.alpha": ()},
}
OPTIONS = {
    "r": [1, 2, 4, 0, "4", None],
    "lora_alpha": [3, 0, 0.5, -1, None, "3"],
    "rank_pattern": [{"q": 2}, {"w1": 1}, {"q": "a"}, [1], None],
    "alpha_pattern": [{"q": 2}, {".*": 5}, {"(": 1}, None],
    "use_rslora": [True, False, 1],
    "target_parameters": [["x.w1"], ["x.w1", "x.w2"], ["w1"], ["x.weight"], "x", [1], None],
    "init_r": [4, 0, None],
    "use_qalora": [True],
    "qalora_group_size": [2, 0, None],
    "use_bdlora": [
        {"nblocks": 2, "target_modules_bd_a": ["q"]},
        {"nblocks": 2, "target_modules_bd_b": ["q"]},
        3,
    ],
    "peft_version": ["0.18.1", "0.21.2", 3],
    "bias": ["all", "lora_only", 3],
    "trainable_token_indices": [{"e": [1, 2]}],
    "kasa_config": [{}, {"beta": 1}],
    "peft_type": ["LORA", "ADALORA"],
}
SHAPES = st.lists(st.sampled_from([0, 1, 2, 4, 6]), max_size=4).map(tuple)


@settings(max_examples=150, deadline=None)
@given(
    groups=st.sets(st.sampled_from(sorted(GROUPS)), min_size=1, max_size=5),
    names=st.sets(st.sampled_from(sorted(OPTIONS)), max_size=3),
    data=st.data(),
)
def test_odd_adapters_raise_only_our_errors(tmp_path_factory, groups, names, data):
    """Any tensors, any configuration: every tensor has a place, or there is an error; and it writes."""
    tensors = {key: shape for group in sorted(groups) for key, shape in GROUPS[group].items()}
    options = {"r": 4, "lora_alpha": 3}
    options |= {name: data.draw(st.sampled_from(OPTIONS[name])) for name in sorted(names)}
    change = data.draw(st.none() | st.tuples(st.sampled_from(sorted(tensors)), SHAPES | st.none()))
    if change is not None:
        tensors |= {change[0]: change[1]}
    folder = tmp_path_factory.mktemp("odd")
    full = {key: torch.randn(shape) for key, shape in tensors.items() if shape is not None}
    save_file(full, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(options))
    try:
        lora = read_lora(folder)
    except FileError:
        event("refused")
        return
    event("read")
    with contextlib.suppress(FormatError):  # some side tensors have no place
        write_lora(lora, folder, overwrite=True)
        event("written")
        again = read_lora(folder)
        assert set(again) == set(lora)
        for name in lora:
            assert torch.allclose(again[name].dense(), lora[name].dense(), rtol=1e-4, atol=1e-4)
        assert set(lora.side) <= set(again.side)
