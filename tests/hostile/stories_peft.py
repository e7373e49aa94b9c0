"""PEFT adapters of the rarer kinds that do not hold, and places that hold no file of weights at all."""

import os
from pathlib import Path

from lorascope.io.header import read_header
from tests.hostile.refusals import Refusal, shrinking, without_handles
from tests.hostile.shapes import module, zeros

P = "base_model.model.m.q_proj"
PAIR = module(P, lora_A__weight=(1, 2), lora_B__weight=(3, 1))
WIDE = module(P, lora_A__weight=(1, 200_000), lora_B__weight=(3, 1))
EXPERTS = module("m.experts", lora_A__weight=(4, 6), lora_B__weight=(6, 4))
TARGETS = b'{"peft_type": "LORA", "r": 2, "target_parameters": ["experts.w1"]}'
RULES = b'{"peft_type": "LORA", "r": 1, "rank_pattern": {%s}}'
GROUPED = {  # each expands to 4 MiB, of 8 kB
    name: shape
    for number in range(8)
    for name, shape in module(
        f"{P}{number}", lora_A__weight=(1024, 1, 1), lora_B__weight=(1024, 1, 1)
    ).items()
}
MANY = b", ".join(b'"q%d.*": 1' % number for number in range(2001))
SLOW = b", ".join(b'".*.*.*[%c]": 1' % letter for letter in b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
LONG = {
    key.replace("m.q_proj", "a." * 109 + str(number)): shape
    for number in range(2)
    for key, shape in PAIR.items()
}


def adapters_below(path: Path) -> None:
    (path / "first").mkdir(parents=True)
    (path / "first" / "adapter_model.safetensors").write_bytes(zeros(PAIR))


PLACES: dict[str, Refusal] = {
    "path to nothing": Refusal("FormatError", "no such file", lambda path: None),
    "path to nothing, asked for its header": Refusal(
        "FormatError", "No such file", lambda path: None, ask=read_header
    ),
    "pipe": Refusal("FormatError", "no regular file", os.mkfifo),
    "file that cannot be opened": Refusal(
        "FormatError", "Too many open files", zeros(PAIR), ask=without_handles
    ),
    "file that shrinks": Refusal("IntegrityError", "the file shrank", zeros(WIDE), ask=shrinking),
    "folder of adapters": Refusal(
        "FormatError", "it holds adapters in the folders", adapters_below, "adapters"
    ),
    "folder of other things": Refusal(
        "FormatError", "found .*, expected", lambda path: path.mkdir(), "adapters"
    ),
}

PEFT: dict[str, Refusal] = {
    "PEFT without factors": Refusal(
        "FormatError",
        "none of its 1 tensors is a factor",
        zeros({"base_model.model.classifier.weight": (2, 2)}),
    ),
    "experts that nothing tells apart": Refusal(
        "FormatError",
        "no layer can be read",
        zeros(
            module("m.experts.base_layer", lora_A__weight=(4, 6), lora_B__weight=(6, 4)) | EXPERTS
        ),
    ),
    "factor of no module": Refusal(
        "FormatError", "names no module", zeros({"base_model.model.lora_A.weight": (1, 2)})
    ),
    "factor with and without the adapter's name": Refusal(
        "FormatError", "both name lora_A", zeros(PAIR | module(P, lora_A__default__weight=(1, 2)))
    ),
    "alpha in a PEFT file": Refusal(
        "FormatError", "holds an alpha", zeros(PAIR | module(P, alpha=()))
    ),
    "tensor with and without the prefix": Refusal(
        "FormatError",
        "two of its keys name the tensor",
        zeros(PAIR | {"base_model.model.head.weight": (2,), "head.weight": (2,)}),
    ),
    "layer with and without its wrapper": Refusal(
        "FormatError",
        "two of its keys name the layer",
        zeros(
            PAIR
            | {key.replace("m.q_proj", "m.base_layer.q_proj"): shape for key, shape in PAIR.items()}
        ),
    ),
    "targets that are a text": Refusal(
        "FormatError",
        "target_parameters is 'experts'.*a list of names",
        zeros(EXPERTS),
        config=b'{"peft_type": "LORA", "r": 2, "target_parameters": "experts"}',
    ),
    "configuration of another program": Refusal(
        "FormatError", "a configuration of MLX", zeros(PAIR), config=b'{"fine_tune_type": "lora"}'
    ),
    "MergedLinear": Refusal(
        "FormatError",
        "enable_lora",
        zeros(PAIR),
        config=b'{"peft_type": "LORA", "enable_lora": [true, false, true]}',
    ),
    "rules that are a list": Refusal(
        "FormatError",
        "rank_pattern is .*a table",
        zeros(PAIR),
        config=b'{"peft_type": "LORA", "rank_pattern": [1]}',
    ),
    "rules without number": Refusal(
        "HostileFileError", "2001 expressions", zeros(PAIR), config=RULES % MANY
    ),
    "rule without end": Refusal(
        "HostileFileError",
        "a pattern has 2001 characters",
        zeros(PAIR),
        config=RULES % (b'"%s": 1' % (b"a*" + b"a" * 1999)),
    ),
    "rule that is no expression": Refusal(
        "FormatError", "no regular expression", zeros(PAIR), config=RULES % b'"(": 1'
    ),
    "rules that are slow together": Refusal(
        "HostileFileError", "matching took longer", zeros(LONG), config=RULES % SLOW
    ),
    "experts without B": Refusal(
        "FormatError",
        r"found \['lora_A'\], expected lora_A and lora_B",
        zeros({"m.experts.lora_A.weight": (4, 6)}),
        config=TARGETS,
    ),
    "experts of two ranks": Refusal(
        "FormatError",
        r"expected \(experts \* r, in\)",
        zeros(module("m.experts", lora_A__weight=(4, 6), lora_B__weight=(6, 3))),
        config=TARGETS,
    ),
    "experts that the rank does not divide": Refusal(
        "FormatError",
        "a multiple of the rank 2",
        zeros(module("m.experts", lora_A__weight=(5, 6), lora_B__weight=(6, 5))),
        config=TARGETS,
    ),
    "factors of whole numbers": Refusal(
        "FormatError", "Quantised factors are not read", zeros(PAIR, "I8")
    ),
    "matrix and embedding at once": Refusal(
        "FormatError",
        "not both",
        zeros(PAIR | module(P, lora_embedding_A=(1, 2), lora_embedding_B=(3, 1))),
    ),
    "convolution of two ranks": Refusal(
        "FormatError",
        "of a convolution",
        zeros(module(P, lora_A__weight=(4, 2, 3), lora_B__weight=(6, 3, 1))),
    ),
    "convolution of groups without number": Refusal(
        "HostileFileError",
        "expands to 67108864 values",
        zeros(module(P, lora_A__weight=(8192, 1, 1), lora_B__weight=(8192, 1, 1))),
    ),
    "many convolutions of groups": Refusal(
        "HostileFileError", "expands to 1048576 values", zeros(GROUPED)
    ),
    "singular values of another rank": Refusal(
        "FormatError", "one for each rank", zeros(PAIR | module(P, lora_E=(2, 1)))
    ),
    "blocks that do not divide": Refusal(
        "FormatError",
        "a multiple of the 2 blocks",
        zeros(module(P, lora_A__weight=(3, 2), lora_B__weight=(3, 3))),
        config=b'{"peft_type": "LORA", "use_bdlora": {"nblocks": 2, "target_modules_bd_a": ["q"]}}',
    ),
}
