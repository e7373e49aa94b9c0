import pytest
import torch

from lorascope.bench import bundle as bundle_module
from lorascope.bench.bundle import bundle, main
from lorascope.core import LoRA, LowRank
from lorascope.core.lora import Provenance
from lorascope.errors import DataError
from lorascope.io import open_zoo, read_lora
from lorascope.io.shard_writer import ZooWriter
from lorascope.predict import load_predictor


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo") / "z"
    writer = ZooWriter(
        folder, {"family": "exam", "seed": 3, "targets": {"accuracy": {"kind": "regression"}}}
    )
    draw = torch.Generator().manual_seed(0)
    loras, rows = [], []
    for i in range(60):
        u, v = torch.randn(6, 2, generator=draw), torch.randn(5, 2, generator=draw)
        size = float(torch.randn((), generator=draw))
        loras.append(
            LoRA({"layers.0.q": LowRank(u * 2.718**size, v)}, provenance=Provenance(base="tiny"))
        )
        rows.append({"id": i, "seed": i, "group": f"g{i}", "label:accuracy": size})
    writer.add_shard(0, loras, rows)
    return writer.finish()


def test_what_is_bundled_fits_together_and_names_no_place(zoo, tmp_path):
    folders = bundle(zoo, tmp_path, targets=["accuracy"])
    assert [str(folder.relative_to(tmp_path)) for folder in folders] == [
        "predictors/accuracy",
        "sample/exam-lora",
    ]
    predictor = load_predictor(folders[0])
    assert predictor.report["source"] == "exam zoo of 60 LoRAs, seed 3"
    assert str(zoo.path) not in (folders[0] / "predictor.json").read_text()
    assert predictor.report["metrics"]["validation"]["r2"] > 0.5
    prediction = predictor.predict(read_lora(folders[1]))[0]
    assert prediction.warnings == ()


def test_bundling_again_replaces(zoo, tmp_path):
    first = bundle(zoo, tmp_path, targets=["accuracy"])
    assert bundle(zoo, tmp_path, targets=["accuracy"]) == first


def test_too_much_is_refused(zoo, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_module, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="at most 100"):
        bundle(zoo, tmp_path, targets=["accuracy"])


def test_the_command_takes_one_zoo(zoo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lorascope.__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(bundle_module, "bundle", lambda opened, out: [out / str(len(opened))])
    main([str(zoo.path)])
    assert capsys.readouterr().out.strip() == str(tmp_path / "data" / "60")
    with pytest.raises(ValueError, match="unpack"):
        main([])
    assert len(open_zoo(zoo.path)) == 60
