"""A build whose disk is full says which file found no room, and goes on once there is some.

Every file of a zoo finds none once: on a real disk that grows by a page at a time, and on any system by a
refusal in its place.
"""

import contextlib
import errno
import subprocess

import pytest

from lorascope.errors import FileError
from lorascope.io import shard_file, shard_writer
from lorascope.zoo.factory.log import build_events
from tests.zoo.factory.killed_build import build, check, contents, keeping, starts
from tests.zoo.planted_family import PlantedFamily, save_base

COUNT, PAGE = 11, 4  # LoRAs, KiB
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return PlantedFamily(save_base(tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="module")
def undisturbed(family, tmp_path_factory):
    return contents(build(tmp_path_factory.mktemp("whole") / "zoo", family, COUNT).path)


def until_it_ends(folder, family, room):
    """Build again and again, with more room each time; what each call but the last one said."""
    told = []
    while len(told) < 200:
        try:
            with keeping(folder, COUNT):
                build(folder, family, COUNT)
        except FileError as error:
            told.append(str(error))
            assert not list(folder.rglob("*.part"))
            room()
        else:
            return told
    raise AssertionError(told[-1])


def test_every_file_that_finds_no_room_is_told_once(family, undisturbed, tmp_path, monkeypatch):
    folder, refused, real = tmp_path / "zoo", [], shard_file.sync

    def sync(path):
        """No room for any file at its first try."""
        if path.name not in refused:
            refused.append(path.name)
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path)

    for module in (shard_file, shard_writer):
        monkeypatch.setattr(module, "sync", sync)
    told = until_it_ends(folder, family, lambda: None)
    check(folder, undisturbed, COUNT)
    written = {name.rsplit("/", 1)[-1] + ".part" for name in undisturbed}
    assert set(refused) == written
    assert len(told) == len(refused)
    for message in told:
        assert message.startswith("Writing ")
        assert "No space left on device (found " in message
        assert "Try: free space on the disk, then the same command again" in message
        assert "\n" not in message
    assert starts(folder)[0] == COUNT


@contextlib.contextmanager
def small_disk(folder, kilobytes):
    """A disk in memory of so many KiB; gives a function that makes it larger. Skips where none is allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a disk in memory is not allowed here")
    size = kilobytes

    def grow():
        nonlocal size
        size += PAGE
        again = ["mount", "-o", f"remount,size={size}k", str(folder)]
        subprocess.run(again, check=True, capture_output=True)

    try:
        yield grow
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


def test_a_disk_that_grows_by_a_page(family, undisturbed, tmp_path):
    with small_disk(tmp_path / "disk", PAGE) as grow:
        folder = tmp_path / "disk" / "zoo"
        told = until_it_ends(folder, family, grow)
        check(folder, undisturbed, COUNT)
        events = [event["event"] for event in build_events(folder)]
        assert events.count("shard") == len(list(folder.glob("shards/*.parquet")))
    # of one page the recipe takes all, of two the counts as well: no log can be begun
    assert [message.split(": ")[0].rsplit("/", 1)[-1] for message in told[:2]] == [
        "counts.json",
        "build.jsonl",
    ]
    named = {message.split(": ")[0].rsplit("/", 1)[-1] for message in told}
    assert "index.parquet" in named
    assert any(message.startswith("Writing shard 0 of the zoo") for message in told)
    assert all("o space left" in m and "free space on the disk" in m for m in told), told
