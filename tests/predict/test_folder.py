import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lorascope.errors import FileError, FormatError, HostileFileError, IntegrityError
from lorascope.models.build import build_model
from lorascope.predict import Predictor, Scaler, folder, load_predictor
from lorascope.predict.folder import DOCUMENT, WEIGHTS
from tests.planted import TARGETS, planted_loras

SOURCES, SCORE, _ = TARGETS
LORAS = planted_loras(4)[0]
SIGNATURE = LORAS[0].signature()


def predictor(target=SCORE, model="svd", seed=0, **options):
    network = build_model(model, SIGNATURE, target.out_features, rank=3, seed=seed, **options)
    report = {"metrics": {"test": {"rmse": 0.5, "spearman": None}}, "seed": 0}
    return Predictor(network, target, Scaler(3.0, 2.0), report)


@pytest.fixture
def saved(tmp_path):
    return predictor().save(tmp_path / "predictor")


def rewrite(saved, **changes):
    """Change the document and make its own checksum right again, as someone who means it would."""
    document = json.loads((saved / DOCUMENT).read_text()) | changes
    document["checksums"][DOCUMENT] = folder._digest(document)
    (saved / DOCUMENT).write_text(json.dumps(document))


def test_what_is_loaded_predicts_what_was_saved(tmp_path):
    for target in TARGETS:
        before = predictor(target, "mlp", hidden=16)
        before.save(tmp_path / target.name)
        after = load_predictor(tmp_path / target.name)
        assert after.target == target
        assert after.model.options == before.model.options
        assert after.signature == before.signature
        assert after.held_out == {"rmse": 0.5, "spearman": None}
        for a, b in zip(before.predict(LORAS), after.predict(LORAS), strict=True):
            assert a == b


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_the_umask_says_who_may_read_it(tmp_path, umask):
    before = os.umask(umask)
    try:
        made = predictor().save(tmp_path / "predictor")
    finally:
        os.umask(before)
    assert made.stat().st_mode & 0o777 == 0o777 & ~umask
    assert {file.stat().st_mode & 0o777 for file in made.iterdir()} == {0o666 & ~umask}


def test_large_tensors_of_eight_bits_take_two_bytes_a_number(tmp_path, monkeypatch):
    before = predictor(SCORE, "mlp", hidden=16)
    whole = (before.save(tmp_path / "whole") / WEIGHTS).stat().st_size
    with torch.no_grad():
        for weights in before.model.parameters():
            weights.copy_(weights.bfloat16())
    monkeypatch.setattr(folder, "NARROW_NUMBERS", 100)
    narrow = (before.save(tmp_path / "narrow") / WEIGHTS).stat().st_size
    assert narrow < 0.6 * whole
    after = load_predictor(tmp_path / "narrow")
    assert next(after.model.parameters()).dtype == torch.float32
    for a, b in zip(before.predict(LORAS), after.predict(LORAS), strict=True):
        assert a == b


def test_the_folder_holds_two_files_and_nothing_is_left_beside_it(saved):
    assert sorted(path.name for path in saved.iterdir()) == [WEIGHTS, DOCUMENT]
    assert [path.name for path in saved.parent.iterdir()] == ["predictor"]


def test_the_digest_tells_predictors_apart_wherever_they_lie(saved, tmp_path):
    first = folder.predictor_digest(saved)
    shutil.copytree(saved, tmp_path / "moved")
    assert folder.predictor_digest(tmp_path / "moved") == first
    predictor(seed=1).save(saved)
    assert folder.predictor_digest(saved) != first
    (saved / DOCUMENT).write_text((saved / DOCUMENT).read_text().replace("0.5", "0.6"))
    with pytest.raises(IntegrityError, match="its own checksum"):
        folder.predictor_digest(saved)


def test_saving_twice_gives_the_same_bytes_and_replaces_the_older_one(saved):
    first = {path.name: path.read_bytes() for path in saved.iterdir()}
    predictor().save(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == first
    predictor(seed=1).save(saved)
    assert (saved / WEIGHTS).read_bytes() != first[WEIGHTS]
    assert [path.name for path in saved.parent.iterdir()] == ["predictor"]


def test_a_failed_save_leaves_the_older_one_and_no_litter(saved):
    broken = predictor()
    broken.model.options["width"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        broken.save(saved)
    assert load_predictor(saved).held_out["rmse"] == 0.5
    assert [path.name for path in saved.parent.iterdir()] == ["predictor"]


def test_a_folder_with_other_things_is_never_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileError, match="holds no predictor"):
        predictor().save(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "p").write_text("thesis")
    with pytest.raises(FileError, match="it is a file"):
        predictor().save(tmp_path / "p")
    assert (tmp_path / "p").read_text() == "thesis"


def test_changed_weights_are_refused(saved):
    state = load_file(saved / WEIGHTS)
    name = next(name for name in state if name.endswith("weight"))
    state[name][0] += 1
    save_file(state, saved / WEIGHTS)
    with pytest.raises(IntegrityError, match="sha256"):
        load_predictor(saved)


def test_a_changed_document_is_refused(saved):
    text = (saved / DOCUMENT).read_text()
    assert '"mean": 3.0' in text
    (saved / DOCUMENT).write_text(text.replace('"mean": 3.0', '"mean": 4.0'))
    with pytest.raises(IntegrityError, match="own checksum"):
        load_predictor(saved)


def test_truncated_weights_are_refused(saved):
    content = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes(content[:-10])
    with pytest.raises(IntegrityError, match="cut off"):
        load_predictor(saved)


def test_weights_of_another_model_are_refused_though_their_checksum_is_right(saved, tmp_path):
    other = predictor(model="mlp").save(tmp_path / "other")
    shutil.copy(other / WEIGHTS, saved / WEIGHTS)
    found = hashlib.sha256((saved / WEIGHTS).read_bytes()).hexdigest()
    rewrite(saved, checksums={WEIGHTS: found})
    with pytest.raises(IntegrityError, match="do not fit the model"):
        load_predictor(saved)


def test_a_pickle_in_the_place_of_the_weights_is_refused_and_never_run(saved, tmp_path):
    torch.save({"a": torch.zeros(1)}, saved / WEIGHTS)
    found = hashlib.sha256((saved / WEIGHTS).read_bytes()).hexdigest()
    rewrite(saved, checksums={WEIGHTS: found})
    with pytest.raises(HostileFileError, match="pickle"):
        load_predictor(saved)


def test_a_model_that_is_not_in_the_table_is_refused(saved):
    rewrite(saved, model={"name": "os.system", "rank": 3, "options": {}})
    with pytest.raises(FormatError, match=r"found the model 'os\.system', expected one of"):
        load_predictor(saved)


@pytest.mark.parametrize("version", [3, "1", None])
def test_a_format_that_is_too_new_or_no_number_is_refused(saved, version):
    rewrite(saved, format_version=version)
    with pytest.raises(FormatError, match="format version"):
        load_predictor(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"name": "svd", "rank": 3, "options": {"colour": "red"}}},
        {"model": {"name": "svd"}},
        {"model": {"name": "svd", "rank": "three", "options": {}}},
        {"signature": {"layers": "all"}},
        {"target": {"name": "score"}},
        {"scaler": {"mean": 0.0, "std": 0.0}},
        {"report": None},
    ],
)
def test_a_document_that_describes_no_predictor_is_refused(saved, changes):
    rewrite(saved, **changes)
    with pytest.raises(FormatError, match="does not describe a predictor"):
        load_predictor(saved)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "other"}', "[" * 100_000])
def test_other_documents_are_refused(saved, text):
    (saved / DOCUMENT).write_text(text)
    with pytest.raises(FormatError):
        load_predictor(saved)


@pytest.mark.parametrize("name", [DOCUMENT, WEIGHTS])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(FileError, match=name):
        load_predictor(saved)


def test_sizes_above_the_caps_are_refused_before_reading(saved, monkeypatch):
    monkeypatch.setattr(folder, "MAX_WEIGHTS_BYTES", 10)
    with pytest.raises(HostileFileError, match="at most 10"):
        load_predictor(saved)


def test_predicting_reaches_no_training_code(saved):
    code = (
        "import sys, lorascope.predict as p\n"
        f"p.load_predictor({str(saved)!r})\n"
        "found = [m for m in sys.modules if m.startswith(('lorascope.train', 'sklearn', 'lorascope.zoo'))]\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_buffers_that_grow_with_the_training_set_come_back(tmp_path):
    from lorascope.core.batch import collate

    network = build_model("kernel_cosine", SIGNATURE, 1, rank=3)
    batch = collate(planted_loras(20)[0])
    network.fit(batch, torch.randn(20, 1, dtype=torch.float64), kind="regression")
    before = Predictor(network, SCORE)
    before.save(tmp_path / "kernel")
    after = load_predictor(tmp_path / "kernel")
    np.testing.assert_array_equal(after.outputs(batch), before.outputs(batch))
