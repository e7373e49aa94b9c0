"""The error tree: everything that lorascope raises on purpose.

    LorascopeError
    |-- FileError              a file cannot be read or written
    |   |-- FormatError        it is not what it says it is, or no known format
    |   |-- HostileFileError   it exceeds a cap or would execute code
    |   `-- IntegrityError     a checksum, a count or a stored value does not hold
    |-- LayerError             a factor pair or a LoRA cannot be what was asked
    |   `-- RankError          its rank is above what the code or the model takes
    |-- SignatureError         a LoRA does not fit the layers that a model was trained on
    |-- DataError              labels, splits or recipes that cannot be used
    |-- TrainingError          a run that cannot go on (diverged, nothing to learn)
    `-- MissingExtraError      an optional dependency is not installed

A message says what was being done, to which file or layer, what was found against what was expected,
and what to try.
"""

__all__ = [
    "DataError",
    "FileError",
    "FormatError",
    "HostileFileError",
    "IntegrityError",
    "LayerError",
    "LorascopeError",
    "MissingExtraError",
    "RankError",
    "SignatureError",
    "TrainingError",
]


class LorascopeError(Exception):
    """The root: catch this to catch everything that lorascope raises on purpose."""


class FileError(LorascopeError):
    """A file or folder cannot be read or written."""


class FormatError(FileError):
    """A file is not of the format that it claims or that was expected."""


class HostileFileError(FileError):
    """A file exceeds a cap on size, count or rank, or would have to be unpickled."""


class IntegrityError(FileError):
    """A stored checksum, count or value does not match what was found."""


class LayerError(LorascopeError):
    """A factor pair or a LoRA has shapes, types or layers that do not allow the operation."""


class RankError(LayerError):
    """A rank is above the maximum that a model or an operation declares."""


class SignatureError(LorascopeError):
    """A LoRA does not fit the signature of a model: other layers or other sizes."""


class DataError(LorascopeError):
    """Labels, groups, splits or recipes cannot be used as asked."""


class TrainingError(LorascopeError):
    """A training run cannot start or go on."""


class MissingExtraError(LorascopeError):
    """An optional dependency is missing; the message holds the pip line that installs it."""

    def __init__(self, package: str, extra: str, doing: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(
            f"{doing} needs {package!r}, which is not installed. "
            f"Try: pip install 'lorascope[{extra}]'"
        )


def sentence(error: BaseException) -> str:
    """The message of an error on one line; of the operating system's, what is wrong and with which file."""
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename is not None else ""
        return f"{error.strerror}{place}"
    return " ".join(str(error).split()) or type(error).__name__
