import pytest

from lorascope.errors import FormatError, HostileFileError, IntegrityError, MissingExtraError
from lorascope.inspect.examine import examine
from lorascope.inspect.refusals import REFUSALS, refusal
from tests.hostile.files import ADAPTERS, HEADERS, write_adapter, write_header

# story of a hostile file -> code
CODES = {
    "empty file": "empty-file",
    "header cut short": "truncated",
    "data cut short": "truncated",
    "Git LFS pointer": "lfs-pointer",
    "web page": "web-page",
    "error message in JSON": "error-page",
    "pickle in disguise": "pickle",
    "data after the last tensor": "trailing-data",
    "tensors that overlap": "damaged",
    "header that is no JSON": "format",
    "nine dimensions": "hostile",
    "half of a layer": "missing-half",
    "shards that were not gathered": "not-gathered",
    "rank above the cap": "rank-too-high",
    "two adapters in one file": "several-adapters",
    "adapter that is no LoRA": "other-method",
}


@pytest.mark.parametrize("story", CODES)
def test_hostile_files_have_their_code(story, tmp_path):
    write = write_header if story in HEADERS else write_adapter
    result = examine(write(story, tmp_path))
    assert result.outcome == "refused"
    assert [problem.code for problem in result.problems] == [CODES[story]]


@pytest.mark.parametrize("story", [*HEADERS, *ADAPTERS])
def test_every_hostile_file_is_a_result(story, tmp_path):
    write = write_header if story in HEADERS else write_adapter
    path = write(story, tmp_path)
    assert examine(path).outcome == "refused"
    assert examine(path, headers=True).to_json()["problems"] is not None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HostileFileError("x"), "hostile"),
        (IntegrityError("x"), "damaged"),
        (FormatError("x"), "format"),
        (MissingExtraError("gguf", "gguf", "Reading"), "missing-extra"),
        (PermissionError(13, "Permission denied", "x"), "unreadable"),
        (ValueError(""), "refused"),
    ],
)
def test_every_error_has_a_code(error, code):
    assert refusal(error).code == code
    assert refusal(error).sentence


def test_codes_are_words():
    assert all(code.replace("-", "").isalpha() for code in REFUSALS)


@pytest.mark.parametrize(
    ("name", "cause", "code"),
    [
        ("x", PermissionError(13, "Permission denied"), "unreadable"),
        ("dill-pickle", OSError(5, "Input/output error"), "unreadable"),
        ("x", FileNotFoundError(2, "No such file or directory"), "not-found"),
    ],
)
def test_what_the_system_refused_is_told_from_what_the_file_is(name, cause, code):
    error = FormatError(f"Opening {name!r}: {cause.strerror}.")
    error.__cause__ = cause
    assert refusal(error).code == code
