"""GGUF files, archives of NumPy and pickles that are not what they should be."""

import os

import torch

from lorascope.io.gguf import read_gguf
from tests.hostile.refusals import Refusal, shrinking_gguf, sparse, trusting, without_gguf
from tests.hostile.shapes import archive, array, gguf, info, pickled, text

A = "base_model.model.m.q_proj.lora_A.weight"


def misnamed(raw: bytes) -> bytes:
    """An archive whose directory says of a name that it is UTF-8, which it is not."""
    place = raw.rindex(b"PK\x01\x02")
    central = bytearray(raw[place:])
    central[9] |= 0x08  # the bit that stands for UTF-8
    central[46] = 0xCB
    return raw[:place] + bytes(central)


class Bomb:
    """Unpickling it would run a command."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("echo unpickled",)


CONTAINERS: dict[str, Refusal] = {
    "GGUF without its magic": Refusal(
        "FormatError", "is no GGUF", b"GGML" + bytes(60), "lora.gguf", ask=read_gguf
    ),
    "GGUF of another version": Refusal("FormatError", "version 1", gguf(version=1), "lora.gguf"),
    "GGUF cut short in its header": Refusal(
        "IntegrityError", "its header ends", gguf()[:40], "lora.gguf"
    ),
    "GGUF cut short in its data": Refusal(
        "IntegrityError",
        "it ends at byte 65536",
        gguf(infos=(info("a.weight.lora_a", 128, 128),)),
        "lora.gguf",
    ),
    "GGUF that shrinks": Refusal(
        "IntegrityError",
        "is cut short",
        gguf(infos=(info("a.weight.lora_a", 4, 4),)),
        "lora.gguf",
        ask=shrinking_gguf,
    ),
    "GGUF with key-values without number": Refusal(
        "HostileFileError", "claims 4294967296 key-values", gguf(pairs=1 << 32), "lora.gguf"
    ),
    "GGUF with a string without end": Refusal(
        "HostileFileError",
        "a string claims",
        gguf({"a": b"\x08\0\0\0" + text("", 1 << 60)}),
        "lora.gguf",
    ),
    "GGUF with an array without end": Refusal(
        "HostileFileError",
        "an array claims",
        gguf({"a": b"\x09\0\0\0\x04\0\0\0" + b"\xff" * 8}),
        "lora.gguf",
    ),
    "GGUF with a value of no type": Refusal(
        "FormatError", "unknown type 77", gguf({"a": b"\x4d\0\0\0"}), "lora.gguf"
    ),
    "GGUF with a string that is not UTF-8": Refusal(
        "FormatError", "no UTF-8", gguf({"a": b"\x08\0\0\0" + text(b"\xff\xfe")}), "lora.gguf"
    ),
    "GGUF of a strange alignment": Refusal(
        "FormatError", "its alignment is", gguf({"general.alignment": -1.0}), "lora.gguf"
    ),
    "GGUF with a tensor twice": Refusal(
        "FormatError", "stands twice", gguf(infos=(info("a", 1), info("a", 1))), "lora.gguf"
    ),
    "GGUF that unfolds": Refusal(
        "HostileFileError",
        "as floats",
        sparse(
            300 << 20, gguf(infos=(info("a", 1 << 30, kind=16), info("b", 1, offset=277 << 20)))
        ),
        "lora.gguf",
    ),
    "GGUF with a tensor of no type": Refusal(
        "FormatError", "type 99", gguf(infos=(info("a", 4, kind=99),)), "lora.gguf"
    ),
    "GGUF with a broken block": Refusal(
        "FormatError",
        "no multiple of blocks of 32",
        gguf(infos=(info("a", 5, kind=8),)),
        "lora.gguf",
    ),
    "GGUF of whole numbers": Refusal(
        "FormatError", "I8 cannot be", gguf(infos=(info("a", 4, kind=24),)), "lora.gguf"
    ),
    "GGUF that is quantised, without the package": Refusal(
        "MissingExtraError",
        "pip install 'lorascope",
        gguf(infos=(info("a", 32, kind=8),)),
        "lora.gguf",
        ask=without_gguf,
    ),
    "GGUF of a whole model": Refusal(
        "FormatError", "a model, not a LoRA", gguf({"general.type": "model"}), "lora.gguf"
    ),
    "GGUF whose alpha is no number": Refusal(
        "FormatError",
        "adapter.lora.alpha is nan",
        gguf(
            {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": float("nan")}
        ),
        "lora.gguf",
    ),
    "GGUF without tensors": Refusal("FormatError", "it holds no tensors", gguf(), "lora.gguf"),
    "archive that is none": Refusal(
        "FormatError", "no archive of arrays", b"PK" + bytes(60), "adapters.npz"
    ),
    "archive with a name that is not UTF-8": Refusal(
        "FormatError", "no archive of arrays", misnamed(archive(array())), "adapters.npz"
    ),
    "archive that is compressed": Refusal(
        "HostileFileError",
        "entries are compressed",
        archive(bytes(100_000), compressed=True),
        "adapters.npz",
    ),
    "archive with an entry that is no array": Refusal(
        "FormatError", "it is no array", archive(b"no"), "adapters.npz"
    ),
    "archive with objects": Refusal(
        "FormatError", "its type is object", archive(array("|O")), "adapters.npz"
    ),
    "archive with an array cut short": Refusal(
        "FormatError",
        "has 4 bytes of values, expected 16",
        archive(array(values=4)),
        "adapters.npz",
    ),
    "pickle, unasked": Refusal(
        "HostileFileError", "allow_pickle=True", pickled({}), "adapter_model.bin"
    ),
    "pickle that runs a command": Refusal(
        "HostileFileError",
        "asks for more than plain tensors",
        pickled({"a": Bomb()}),
        "adapter_model.bin",
        ask=trusting,
    ),
    "pickle that is damaged": Refusal(
        "FormatError",
        "cannot be unpickled",
        b"\x80\x02" + bytes(60),
        "adapter_model.bin",
        ask=trusting,
    ),
    "pickle of 8 GiB": Refusal(
        "HostileFileError",
        "8589934593 bytes",
        sparse((8 << 30) + 1, b"\x80\x02"),
        "adapter_model.bin",
        ask=trusting,
    ),
    "pickle of a number": Refusal(
        "FormatError", "a pickled int", pickled(3), "adapter_model.bin", ask=trusting
    ),
    "pickle with a name that is a number": Refusal(
        "FormatError",
        "found the key 3",
        pickled({3: torch.zeros(1)}),
        "adapter_model.bin",
        ask=trusting,
    ),
    "pickle with a number for a tensor": Refusal(
        "FormatError",
        "found a int, expected a dense tensor",
        pickled({A: 3}),
        "adapter_model.bin",
        ask=trusting,
    ),
    "pickle of complex numbers": Refusal(
        "FormatError",
        "found torch.complex64",
        pickled({A: torch.zeros(1, dtype=torch.complex64)}),
        "adapter_model.bin",
        ask=trusting,
    ),
    "pickle whose tensor repeats one value": Refusal(
        "HostileFileError",
        "claims 4000000 bytes",
        pickled({A: torch.zeros(1).expand(10**6)}),
        "adapter_model.bin",
        ask=trusting,
    ),
}
