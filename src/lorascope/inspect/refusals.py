"""A file that was refused, as a problem with a code: the visible table from messages to codes.

The reader's message is the sentence; the code lets a script tell a pointer of Git LFS from a file cut short.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from lorascope.errors import FormatError, HostileFileError, IntegrityError, MissingExtraError
from lorascope.inspect.problem import Problem, Severity

__all__ = ["REFUSALS", "refusal"]

# code -> what the message of the reader says, first match first
REFUSALS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        code: re.compile(pattern)
        for code, pattern in {
            "lfs-pointer": r"Git LFS pointer",
            "web-page": r"is a web page",
            "error-page": r"is JSON text",
            "wrong-extension": r"is a GGUF file",
            "pickle": r"pickle",
            "empty-file": r"it has \d bytes, no room for a header",
            "truncated": r"cut short|file shrank|Unexpected end",
            "trailing-data": r"bytes follow its last tensor",
            "not-gathered": r"ZeRO-3|FSDP|not gathered",
            "missing-half": r"expected lora_[AB]|expected (?:up|down|factors|\w+) beside it",
            "rank-too-high": r"its rank is \d+",
            "no-lora": r"names a factor of a LoRA|is a factor|holds no tensors|no layer can be read",
            "several-adapters": r"expected one adapter|adapters \[",
            "other-method": r"peft_type",
            "missing-extra": r"which is not installed",
            "not-found": r"[Nn]o such file|does not exist",
        }.items()
    }
)
KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (HostileFileError, "hostile"),
    (IntegrityError, "damaged"),
    (FormatError, "format"),
    (MissingExtraError, "missing-extra"),
)


def refusal(error: BaseException) -> Problem:
    """The refusal as a problem of severity error.

    Example:
        >>> refusal(FormatError("Reading 'x': it is a web page, probably ...")).code
        'web-page'
    """
    message = " ".join(str(error).split()) or type(error).__name__
    code = next((code for code, mark in REFUSALS.items() if mark.search(message)), None)
    if of_the_system(error):
        code = "unreadable"
    elif code is None:
        code = next((name for kind, name in KINDS if isinstance(error, kind)), "refused")
    return Problem(code, Severity.ERROR, message)


def of_the_system(error: BaseException) -> bool:
    """Whether the system refused what is there: a permission, a disk's error; not what is not there."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and (
        cause is error or not isinstance(cause, FileNotFoundError)
    )
