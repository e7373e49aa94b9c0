"""One shard, checked without its zoo."""

import pytest

from lorascope.io.digest import file_sha256
from lorascope.zoo.factory.verify_shard import Shard, check_shard
from tests.zoo.factory.planted_zoo import write_planted


@pytest.fixture
def shard(tmp_path):
    write_planted(tmp_path / "zoo", seeds=range(3))
    return Shard(tmp_path / "zoo/shards", "shard-00000")


def test_a_sound_shard(shard):
    assert list(check_shard(shard)) == []
    assert shard.recorded == file_sha256(shard.weights)
    assert shard.bytes_read == shard.weights.stat().st_size + shard.rows.stat().st_size


def test_a_shard_without_rows_records_nothing(shard):
    shard.rows.unlink()
    assert shard.recorded is None
    assert [finding.place for finding in check_shard(shard)] == ["shard-00000.parquet"]
