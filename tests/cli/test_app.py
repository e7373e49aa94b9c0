import os
import subprocess
import sys

import pytest
from tests.inspect.files import write_kohya

import lorascope
from lorascope.cli import app as public_app
from lorascope.cli import main
from lorascope.cli.app import app
from lorascope.cli.manual import commands, help_text
from lorascope.errors import DataError

COMMANDS = [words for words in commands(app) if words]
LEAVES = [words for words in COMMANDS if words not in {("zoo",), ("bench",)}]


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(words)
    printed = capsys.readouterr()
    return ended.value.code or 0, printed.out, printed.err


def test_the_package_shows_the_app_and_its_entry_point():
    assert public_app is app
    assert ("zoo", "build") in COMMANDS
    assert len(LEAVES) == len(set(LEAVES)) == 19


def test_help_needs_no_tensor_library():
    code = (
        "import sys\nfrom lorascope.cli import main\n"
        "try:\n    main(['predict', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'sklearn', 'transformers', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: lorascope predict")


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_command_has_help_with_an_example(words):
    text = help_text(words)
    assert "Example" in text
    assert f"  lorascope {' '.join(words)}" in text


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8", "ascii:surrogateescape"])
def test_an_encoding_that_lacks_a_character_is_no_end(tmp_path, encoding):
    path = write_kohya(tmp_path / "żółć.safetensors")
    look = ["inspect", "--headers", str(path)]
    for words in (look, [*look, str(write_kohya(tmp_path / "b.safetensors"))], ["--help"]):
        done = subprocess.run(
            [sys.executable, "-c", "from lorascope.cli import main; main()", *words],
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )
        assert (done.returncode, done.stderr) == (0, b"")
        out = done.stdout.decode(encoding.partition(":")[0])
        assert ("Usage:" if words == ["--help"] else ".safetensors") in out


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"lorascope {lorascope.__version__}\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ["no-such-command"],
        ["inspect"],
        ["inspect", "--no-such-option", "x"],
        ["zoo", "build", "exam", "--count", "many"],
        ["train", "--zoo", "x"],
    ],
)
def test_bad_words_end_with_two_and_nothing_on_stdout(capsys, words):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert "Error: " in err


@pytest.mark.parametrize(
    "words", [["inspect"], ["predict", "--with", "also-not-there"], ["zoo", "info"]]
)
def test_a_missing_file_ends_with_one_line_and_two(capsys, tmp_path, words):
    code, out, err = run(capsys, *words, str(tmp_path / "not-there"))
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert "there" in err
    assert err.count("\n") == 1


def failing_with(error, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("lorascope.cli.paths.adapters_in", fail)


def test_errors_of_the_tree_and_of_the_system_become_messages(capsys, monkeypatch):
    failing_with(DataError("labels\nare \x1b[31m wrong"), monkeypatch)
    assert run(capsys, "inspect", "x") == (2, "", "Error: labels are \\x1b[31m wrong\n")
    failing_with(PermissionError(13, "Permission denied", "x"), monkeypatch)
    assert run(capsys, "inspect", "x") == (2, "", "Error: Permission denied: x\n")


def test_faults_of_the_program_keep_their_traceback(monkeypatch):
    failing_with(ZeroDivisionError("a bug"), monkeypatch)
    with pytest.raises(ZeroDivisionError):
        main(["inspect", "x"])


def test_the_installed_program_runs():
    done = subprocess.run(
        [sys.executable, "-c", "from lorascope.cli import main; main()", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"lorascope {lorascope.__version__}\n"
