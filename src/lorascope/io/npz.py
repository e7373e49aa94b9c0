"""NumPy's archive (.npz), in which older MLX adapters come: name -> tensor, never unpickled.

    zip of NAME.npy, stored; NAME.npy = magic | version | header {descr, fortran_order, shape} | values

Compressed entries are refused (MLX writes none, and they could unpack to any size), and so are types that are
no plain numbers. What the names mean is in dialects/mlx.py.
"""

import io
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorascope.errors import FileError, FormatError, HostileFileError
from lorascope.io.header import check_name, check_shape, check_tensor_count, open_regular
from lorascope.io.tensors import TensorFile

__all__ = ["read_npz"]


def read_npz(path: Path | str) -> TensorFile:
    """Read an archive of arrays.

    Raises:
        FormatError: it is no such archive, or an array of it cannot be read.
        HostileFileError: an entry is compressed, or a count or a size is above its cap.
    """
    where = str(path)
    with open_regular(Path(path)) as file:
        file_bytes = os.fstat(file.fileno()).st_size
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
                check_tensor_count(len(entries), where)
                if sum(entry.file_size for entry in entries) > file_bytes or any(
                    entry.compress_type != zipfile.ZIP_STORED for entry in entries
                ):
                    raise HostileFileError(
                        f"Reading {where!r}: its entries are compressed, expected stored ones."
                    )
                raw = {
                    entry.filename.removesuffix(".npy"): archive.read(entry) for entry in entries
                }
        except FileError:
            raise
        except Exception as error:  # zipfile raises whatever a bad directory makes it trip over
            raise FormatError(f"Reading {where!r}: it is no archive of arrays: {error}.") from error
    return TensorFile({name: _array(name, data, where) for name, data in raw.items()})


def _array(name: str, data: bytes, where: str) -> Tensor:
    check_name(name, where)
    stream = io.BytesIO(data)
    reader: Any = np.lib.format
    try:
        version = reader.read_magic(stream)
        read_header = (
            reader.read_array_header_1_0 if version == (1, 0) else reader.read_array_header_2_0
        )
        shape, columns_first, dtype = read_header(stream)
    except Exception as error:  # numpy's parser raises whatever a bad header makes it trip over
        raise FormatError(
            f"Reading {name!r} of {where!r}: it is no array: {error!s:.100}."
        ) from error
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise FormatError(
            f"Reading {name!r} of {where!r}: its type is {dtype}, expected plain numbers."
        )
    nbytes = check_shape(shape, dtype.itemsize, name, where)
    values = data[stream.tell() :]
    if len(values) != nbytes:
        raise FormatError(
            f"Reading {name!r} of {where!r}: it has {len(values)} bytes of values, expected {nbytes}."
        )
    array = np.frombuffer(bytearray(values), dtype=dtype, count=math.prod(shape))
    array = array.astype(dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(array.reshape(shape, order="F" if columns_first else "C").copy())
