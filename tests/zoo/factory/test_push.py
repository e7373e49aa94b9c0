"""A push sends a zoo and nothing else, privately, and says what went wrong without the token."""

import os
import subprocess
import sys

import pytest

from lorascope.errors import DataError, FileError, IntegrityError, MissingExtraError
from lorascope.zoo.factory.push import files_to_push, push_zoo
from tests.zoo.factory.hub import Hub, serving
from tests.zoo.factory.planted_zoo import write_planted

TOKEN = "hf_secretsecretsecret"
MAIN = "from lorascope.cli import main; main()"
EXPECTED = {
    "README.md",
    "labels.png",
    "recipe.json",
    "counts.json",
    "index.parquet",
    "splits.json",
    "report.json",
    *(f"shards/shard-{i:05d}.{kind}" for i in range(3) for kind in ("parquet", "safetensors")),
}


@pytest.fixture
def zoo(tmp_path):
    made = write_planted(tmp_path / "my-zoo")
    (made.path / "notes.txt").write_text("mine alone")
    return made


def push(folder, endpoint, *words):
    """`lorascope zoo push` in a process of its own: huggingface_hub reads its settings once."""
    env = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HOME": str(folder.parent / "hf"),
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": "127.0.0.1",
    }
    return subprocess.run(
        [sys.executable, "-c", MAIN, "zoo", "push", str(folder), *words],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("lfs", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_zoo_arrives_whole_and_private(zoo, lfs):
    hub = Hub(lfs=lfs)
    with serving(hub) as endpoint:
        done = push(zoo.path, endpoint, "anna/my-zoo")
    assert done.returncode == 0, done.stderr
    assert set(hub.files) == EXPECTED
    for name, data in hub.files.items():
        assert data == (zoo.path / name).read_bytes()
    assert bool(hub.objects) is lfs
    created = hub.repos["anna/my-zoo"]
    assert created["type"] == "dataset"
    assert created.get("visibility") == "private" or created.get("private") is True
    assert f"Bearer {TOKEN}" in hub.tokens
    assert TOKEN not in done.stdout + done.stderr
    assert "anna/my-zoo" in done.stdout


def test_a_refusal_is_one_message_without_the_token(zoo):
    with serving(Hub(refuses=True)) as endpoint:
        done = push(zoo.path, endpoint, "anna/my-zoo")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "You have no right to write here" in done.stderr
    assert done.stderr.count("\n") == 1
    assert TOKEN not in done.stderr


@pytest.mark.slow
def test_a_hub_that_is_not_there_is_one_message(zoo):
    done = push(zoo.path, "http://127.0.0.1:9", "anna/my-zoo")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: Pushing to anna/my-zoo on http://127.0.0.1:9")


def test_a_dry_run_asks_nobody(zoo, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    parcel = push_zoo(zoo.path, "anna/my-zoo", dry_run=True)
    assert {name for name, _ in parcel.files} == EXPECTED
    assert parcel.private
    assert parcel.url == ""
    assert parcel.size == sum((zoo.path / name).stat().st_size for name in EXPECTED)
    with pytest.raises(MissingExtraError, match=r"pip install 'lorascope\[hub\]'"):
        push_zoo(zoo.path, "anna/my-zoo")


def test_the_log_goes_only_when_asked(zoo):
    assert "build.jsonl" not in dict(files_to_push(zoo.path))
    assert "build.jsonl" in dict(files_to_push(zoo.path, with_log=True))


@pytest.mark.parametrize(
    "repo", ["my-zoo", "a/b/c", "/x", "x/", "../x", "a/b c", "a/-b", "a/b..c", "a/b.git", "a/é"]
)
def test_a_name_that_is_none(zoo, repo):
    with pytest.raises(DataError, match="USER/NAME"):
        push_zoo(zoo.path, repo, dry_run=True)


def test_a_damaged_zoo_stays_here(zoo):
    path = zoo.path / "shards/shard-00001.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(IntegrityError, match="zoo verify"):
        push_zoo(zoo.path, "anna/my-zoo", dry_run=True)
    assert push_zoo(zoo.path, "anna/my-zoo", dry_run=True, verify=False).files
    with pytest.raises(FileError, match=r"no recipe\.json"):
        push_zoo(zoo.path.parent, "anna/my-zoo")
