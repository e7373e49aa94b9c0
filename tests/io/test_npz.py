"""Archives of arrays: as MLX saved its first adapters, and ones that lie."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch

from lorascope.errors import FormatError, HostileFileError
from lorascope.io import read_lora, sniff
from lorascope.io.npz import read_npz

Q = "model.layers.0.self_attn.q_proj"
A, B = np.random.default_rng(0).standard_normal((2, 4, 2)).astype(np.float32)


def test_an_older_mlx_adapter(tmp_path):
    np.savez(tmp_path / "adapters.npz", **{f"{Q}.lora_a": A, f"{Q}.lora_b": B.T})
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"fine_tune_type": "lora", "lora_parameters": {"scale": 2.0}})
    )
    lora = read_lora(tmp_path)
    torch.testing.assert_close(lora[Q].dense(), torch.from_numpy(2 * (A @ B.T).T))
    assert (lora.provenance.outcome, sniff(tmp_path).format) == ("exact", "mlx")


@pytest.mark.parametrize(
    "values", [A.T, A.astype(">f4"), A.astype(np.float16), np.ones((0, 3)), np.array(3)]
)
def test_orders_of_values_and_bytes(tmp_path, values):
    np.savez(tmp_path / "a.npz", x=values)
    np.testing.assert_array_equal(read_npz(tmp_path / "a.npz").tensors["x"].numpy(), values)


def npy(text):
    header = text.encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"nothing", FormatError, "it is no array"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9, 9)}"), FormatError, "0 bytes of values"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976, 9)}"), HostileFileError,
         "larger"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': ()}"), FormatError, "plain numbers"),
        (npy("[" * 300), FormatError, "it is no array"),
    ],
)  # fmt: skip
def test_arrays_that_lie(tmp_path, data, error, message):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", data)
    with pytest.raises(error, match=message):
        read_npz(tmp_path / "a.npz")


def test_compressed_and_broken_archives(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(10_000))
    with pytest.raises(HostileFileError, match="compressed"):
        read_npz(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"PK nothing")
    with pytest.raises(FormatError, match="no archive of arrays"):
        read_npz(tmp_path / "b.npz")
    stream = io.BytesIO()
    np.savez(stream, **{"../x": A})
    (tmp_path / "c.npz").write_bytes(stream.getvalue())
    with pytest.raises(HostileFileError, match="is a path"):
        read_npz(tmp_path / "c.npz")
