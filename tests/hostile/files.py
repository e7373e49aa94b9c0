"""Hostile files, made byte by byte: the story of each stands in README.md."""

import json
from collections.abc import Callable
from pathlib import Path

M = "base_model.model.m.q_proj"


def entry(dtype="F32", shape=(1,), offsets=(0, 4)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def pack(header: object, data: bytes = b"\0" * 4, length: int | None = None) -> bytes:
    """A safetensors file of a header (text, bytes or a table), whatever it says."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def tensors(**entries: dict) -> bytes:
    return pack(entries)


def pair(a=(1, 2), b=(3, 1), module: str = M, **more: tuple[int, ...]) -> bytes:
    """A PEFT file of fp32 zeros with the shapes given."""
    shapes = {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b} | more
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = entry("F32", shape, (end, end + size))
        end += size
    return pack(header, bytes(end))


GOOD = entry()
DEEP = b'{"a":' * 30 + b"1" + b"}" * 30

# story -> (the file, its name, class of the error, what its message says)
HEADERS: dict[str, tuple[bytes, str, str]] = {
    "empty file": (b"", "IntegrityError", "0 bytes, no room for a header"),
    "seven bytes": (b"\x08\0\0\0\0\0\0", "IntegrityError", "no room for a header"),
    "length of 2^64 - 1": (
        b"\xff" * 8 + b"{}",
        "HostileFileError",
        "claims 18446744073709551615 bytes",
    ),
    "length above the cap": (
        pack(b"{}", length=25_000_001),
        "HostileFileError",
        "at most 25000000",
    ),
    "header cut short": (pack({"x": GOOD})[:30], "IntegrityError", "cut short"),
    "Git LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:1",
        "FormatError",
        "git lfs pull",
    ),
    "web page": (b"<!DOCTYPE html><html><body>404</body></html>", "FormatError", "web page"),
    "error message in JSON": (b'{"error": "Repository not found"}', "FormatError", "JSON text"),
    "pickle in disguise": (
        b"\x80\x04\x95\x1b\x00\x00\x00\x00\x00\x00\x00c",
        "HostileFileError",
        "it is a pickle",
    ),
    "zip in disguise": (
        b"PK\x03\x04" + b"\x14" * 40,
        "HostileFileError",
        "it is a pickle \\(or a zip\\)",
    ),
    "GGUF in disguise": (b"GGUF\x03\x00\x00\x00\xff\x00\x00\x00", "FormatError", "GGUF"),
    "header that is no JSON": (pack(b"{nonsense}"), "FormatError", "cannot be parsed"),
    "header that is a list": (pack(b"[1, 2, 3]"), "FormatError", "starts with"),
    "header that is not UTF-8": (pack(b'{"\xff\xfe": 1}'), "FormatError", "cannot be parsed"),
    "header with text after it": (pack(b"{} {}"), "FormatError", "cannot be parsed"),
    "nested header": (pack(DEEP), "HostileFileError", "nested deeper than 4 levels"),
    "header of brackets": (pack(b"{" + b"[" * 200_000), "HostileFileError", "holds 100000 tensors"),
    "header of commas": (
        pack(b'{"a":[' + b"1," * 900_000 + b"1]}"),
        "HostileFileError",
        "entries, expected at",
    ),
    "header of quotes": (
        pack(b'{"a":' + b'x"\\"' * 300_000),
        "HostileFileError",
        "more than 270000 strings",
    ),
    "number of 5,000 digits": (
        pack(b'{"x":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}'),
        "FormatError",
        "cannot be parsed",
    ),
    "NaN for a number": (
        pack(b'{"x":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}'),
        "FormatError",
        "holds NaN",
    ),
    "tensor named twice": (
        pack(b'{"x":%s,"x":%s}' % ((json.dumps(GOOD).encode(),) * 2)),
        "FormatError",
        "'x' stands twice",
    ),
    "too many tensors": (
        pack(b'{"t":{}' + b"".join(b',"%d":{}' % i for i in range(50_001)) + b"}"),
        "HostileFileError",
        "holds 50000 tensors|holds 50001 tensors|holds 50002 tensors",
    ),
    "metadata that is a list": (
        pack({"__metadata__": [], "x": GOOD}),
        "FormatError",
        r"metadata is \[\]",
    ),
    "metadata that is nested": (
        pack({"__metadata__": {"a": {}}, "x": GOOD}),
        "FormatError",
        "expected a string",
    ),
    "metadata of 5 MB": (
        pack({"__metadata__": {"a": "b" * 5_000_000}, "x": GOOD}),
        "HostileFileError",
        "5000000 bytes, expected at most 4194304",
    ),
    "metadata of 10,001 entries": (
        pack({"__metadata__": {str(i): "" for i in range(10_001)}, "x": GOOD}),
        "HostileFileError",
        "10001 metadata entries",
    ),
    "unknown type": (tensors(x=entry("F5")), "FormatError", "type is 'F5'"),
    "type that is no text": (tensors(x=entry([])), "FormatError", r"type is \[\]"),
    "type smaller than a byte": (tensors(x=entry("F4", (8,))), "FormatError", "type is 'F4'"),
    "entry without a shape": (tensors(x={"dtype": "F32"}), "FormatError", "expected dtype, shape"),
    "entry with more": (
        tensors(x=GOOD | {"url": "file:///etc/passwd"}),
        "FormatError",
        "expected dtype, shape",
    ),
    "entry that is a number": (pack({"x": 3}), "FormatError", "expected dtype, shape"),
    "negative dimension": (tensors(x=entry(shape=(-1,))), "FormatError", "whole numbers from 0"),
    "dimension that is a truth value": (
        tensors(x=entry(shape=(True,))),
        "FormatError",
        "whole numbers from 0",
    ),
    "dimension that is a fraction": (
        tensors(x=entry(shape=(1.0,))),
        "FormatError",
        "whole numbers from 0",
    ),
    "negative offset": (tensors(x=entry(offsets=(-4, 0))), "FormatError", "whole numbers from 0"),
    "three offsets": (tensors(x=entry(offsets=(0, 4, 8))), "FormatError", "two for the offsets"),
    "nine dimensions": (tensors(x=entry(shape=(1,) * 9)), "HostileFileError", "9 dimensions"),
    "product that overflows": (
        tensors(x=entry(shape=(2**32, 2**32))),
        "HostileFileError",
        "larger than any memory",
    ),
    "empty tensor with a giant axis": (
        tensors(x=entry(shape=(0, 2**60), offsets=(0, 0))),
        "HostileFileError",
        "larger than any memory",
    ),
    "empty tensor whose other axes overflow": (
        tensors(x=entry(shape=(0, 2**39, 2**39), offsets=(0, 0))),
        "HostileFileError",
        "larger than any memory",
    ),
    "offsets that hold less": (
        tensors(x=entry(shape=(2,))),
        "IntegrityError",
        "takes 8 bytes, its offsets",
    ),
    "offsets the wrong way round": (tensors(x=entry(offsets=(4, 0))), "IntegrityError", "hold -4"),
    "tensors that overlap": (
        tensors(x=GOOD, y=GOOD),
        "IntegrityError",
        "'y' begins at byte 0 and overlaps",
    ),
    "hole between tensors": (
        pack({"x": GOOD, "y": entry(offsets=(8, 12))}, bytes(12)),
        "IntegrityError",
        "'y' begins at byte 8 and leaves a hole after 'x'",
    ),
    "hole before the first": (
        pack({"x": entry(offsets=(4, 8))}, bytes(8)),
        "IntegrityError",
        "leaves a hole after 'the start of the data'",
    ),
    "data cut short": (
        pack({"x": GOOD}, b"\0\0"),
        "IntegrityError",
        "need 4 bytes, the file holds 2",
    ),
    "data after the last tensor": (
        pack({"x": GOOD}, bytes(9)),
        "IntegrityError",
        "5 bytes follow its last tensor",
    ),
    "name that is a path upwards": (
        pack({"../../etc/passwd": GOOD}),
        "HostileFileError",
        "is a path",
    ),
    "name that is an absolute path": (pack({"/etc/passwd": GOOD}), "HostileFileError", "is a path"),
    "name that is a path of Windows": (pack({"a\\..\\b": GOOD}), "HostileFileError", "is a path"),
    "name with NUL": (pack({"a\0b": GOOD}), "HostileFileError", "control characters"),
    "name that moves the cursor": (
        pack({"\x1b[2Jx": GOOD}),
        "HostileFileError",
        "control characters",
    ),
    "name that is written backwards": (
        pack({"a\u202eb": GOOD}),
        "HostileFileError",
        "control characters",
    ),
    "name that is empty": (pack({"": GOOD}), "HostileFileError", "is empty"),
    "name of 513 letters": (pack({"a" * 513: GOOD}), "HostileFileError", "513 characters"),
}

# story -> (adapter_model.safetensors, adapter_config.json, class of the error, what its message says)
ADAPTERS: dict[str, tuple[bytes, bytes, str, str]] = {
    "half of a layer": (
        pack({f"{M}.lora_A.weight": entry(shape=(1, 1))}),
        b"{}",
        "FormatError",
        "'m.q_proj'.*found lora_A .*expected lora_B",
    ),
    "shards that were not gathered": (pair(a=(2,), b=(0,)), b"{}", "FormatError", "ZeRO-3 or FSDP"),
    "factors of two ranks": (pair(a=(2, 4), b=(4, 3)), b"{}", "FormatError", "with one r"),
    "rank above the cap": (pair(a=(8193, 1), b=(1, 8193)), b"{}", "HostileFileError", "its rank is 8193"),
    "two adapters in one file": (
        pair(**{f"{M}.lora_A.one.weight": (1, 2), f"{M}.lora_A.two.weight": (1, 2)}),
        b"{}",
        "FormatError",
        "adapters \\['one', 'two'\\]",
    ),
    "configuration that is no JSON": (pair(), b"r: 4", "FormatError", "cannot be parsed"),
    "configuration that is a list": (pair(), b"[]", "FormatError", "JSON list"),
    "configuration nested for ever": (pair(), b"[" * 1_000_000, "HostileFileError", "nested too deep"),
    "configuration with a key twice": (pair(), b'{"r": 1, "r": 2}', "FormatError", "'r' stands twice"),
    "configuration without an end": (pair(), b" " * (17 * 2**20), "HostileFileError", "more than 16777216"),
    "alpha that is infinite": (pair(), b'{"lora_alpha": 1e999}', "FormatError", "lora_alpha is inf"),
    "alpha that is NaN": (pair(), b'{"lora_alpha": NaN}', "FormatError", "holds NaN"),
    "alpha that is a text": (pair(), b'{"lora_alpha": "8"}', "FormatError", "lora_alpha is '8'"),
    "rank that is negative": (pair(), b'{"r": -1}', "FormatError", "r is -1"),
    "rule that never ends": (
        pair(module="a" * 60),
        b'{"r": 1, "rank_pattern": {"(a+)+b": 2}}',
        "HostileFileError",
        "could take for ever",
    ),
    "rule that ends in a thousand years": (
        pair(module="a" * 400),
        b'{"r": 1, "rank_pattern": {".*.*.*.*.*.*.*.*b": 2}}',
        "HostileFileError",
        "could take for ever",
    ),
    "blocks without number": (
        pair(),
        b'{"use_bdlora": {"nblocks": 1000000, "target_modules_bd_a": ["q"]}}',
        "FormatError",
        "nblocks is 1000000",
    ),
    "groups without number": (
        pair(),
        b'{"use_qalora": true, "qalora_group_size": 1000000}',
        "HostileFileError",
        "qalora_group_size is 1000000",
    ),
    "experts without number": (
        pair(**{f"{M}.experts.lora_A.weight": (5000, 1), f"{M}.experts.lora_B.weight": (1, 5000)}),
        b'{"r": 1, "target_parameters": ["experts.w1"]}',
        "HostileFileError",
        "5000 experts",
    ),
    "stacks of experts without number": (
        pair(
            **{
                f"m.{stack}.experts.lora_{half}.weight": shape
                for stack in range(13)
                for half, shape in (("A", (4000, 1)), ("B", (1, 4000)))
            }
        ),
        b'{"r": 1, "target_parameters": ["experts.w1"]}',
        "HostileFileError",
        "more than 50000 layers",
    ),
    "adapter that is no LoRA": (pair(), b'{"peft_type": "IA3"}', "FormatError", "a scaling of the activations"),
}  # fmt: skip


def write_header(story: str, folder: Path) -> Path:
    path = folder / "hostile.safetensors"
    path.write_bytes(HEADERS[story][0])
    return path


def write_adapter(story: str, folder: Path) -> Path:
    weights, config, *_ = ADAPTERS[story]
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "adapter_config.json").write_bytes(config)
    return folder


WRITERS: dict[str, Callable[[str, Path], Path]] = {"header": write_header, "adapter": write_adapter}
