"""A zoo small enough to train on in a second, whose labels are planted in the updates, and a shell."""

import pytest
import torch

from lorascope.cli import main
from lorascope.core import LoRA, LowRank
from lorascope.core.lora import Provenance, Scale
from lorascope.io.shard_writer import ZooWriter

COUNT = 80
SIZES = {
    "model.layers.0.q_proj": (8, 6),
    "model.layers.1.q_proj": (8, 6),
    "model.layers.0.v_proj": (5, 6),
}
TARGETS = {
    "strength": {"kind": "regression", "base_value": 0.0, "unit": "dB"},
    "topics": {"kind": "multilabel", "classes": ["odd", "big"]},
    "family": {"kind": "multiclass", "classes": ["a", "b"]},
}


def planted(seed):
    """A LoRA of rank 2 whose log norm is its strength."""
    draw = torch.Generator().manual_seed(seed)
    strength = float(torch.randn((), generator=draw))
    layers = {
        name: LowRank(
            torch.randn(n, 2, generator=draw) * torch.tensor(strength).exp(),
            torch.randn(m, 2, generator=draw),
        )
        for name, (n, m) in SIZES.items()
    }
    scales = dict.fromkeys(layers, Scale(4.0, 2, 2.0, "alpha/r"))
    return LoRA(layers, provenance=Provenance(base="tiny", scales=scales)), strength


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    """The folder of a finished zoo."""
    folder = tmp_path_factory.mktemp("zoo") / "planted"
    writer = ZooWriter(folder, {"kind": "test", "targets": TARGETS})
    pairs = [planted(seed) for seed in range(COUNT)]
    rows = [
        {
            "id": 100 + seed,
            "seed": seed,
            "group": f"g{seed}",
            "hyper:rate": 0.001 * seed,
            "label:strength": strength,
            "label:topics": [seed % 2 == 1, strength > 0],
            "label:family": "ab"[strength > 0],
        }
        for seed, (_, strength) in enumerate(pairs)
    ]
    writer.add_shard(0, [lora for lora, _ in pairs], rows)
    writer.finish({"ceiling": 1.0})
    return folder


@pytest.fixture
def run(capsys):
    """Run a command: its exit code, what it printed on stdout, and on stderr."""

    def shell(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return shell


@pytest.fixture
def adapter(run, zoo, tmp_path):
    """A PEFT folder of one LoRA of the zoo."""
    folder = tmp_path / "adapter"
    code, out, err = run("zoo", "export", zoo, 107, "--out", folder)
    assert (code, err) == (0, "")
    assert out.strip() == str(folder)
    return folder
