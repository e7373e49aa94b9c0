"""Shared fixtures: small random LoRAs with ragged ranks, several shapes, a missing layer and a convolution."""

import os
import random

import numpy as np
import pytest
import torch
from hypothesis import settings

from lorascope.core import LoRA, LowRank

SEED = int(os.environ.get("LORASCOPE_TEST_SEED", "0"))  # set it to free the seeds
settings.register_profile("fixed", derandomize=True)
if "LORASCOPE_TEST_SEED" not in os.environ:
    settings.load_profile("fixed")


#: Fixtures that cost so much that all who ask for one share a process, where tests run in several.
COSTLY = ("finished", "trust_asked", "exam_zoo", "faces_zoo", "second_zoo", "brief_folder")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Several processes take a file each, or all that share a costly fixture."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        shared = next((name for name in COSTLY if name in names), None)
        item.add_marker(pytest.mark.xdist_group(shared or str(item.path)))


def seed_all() -> None:
    """Global generators start at the tests' seed, so that no test's draws depend on what ran before it."""
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002
    torch.default_generator.manual_seed(SEED)  # torch.manual_seed takes 500 times as long
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(SEED)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts there."""
    seed_all()


def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> None:
    """So does a fixture that several tests share: it is made before `seeded`."""
    if fixturedef.scope != "function":
        seed_all()


@pytest.fixture
def generator() -> torch.Generator:
    """A generator with the tests' seed."""
    return torch.Generator().manual_seed(SEED)


def random_pair(
    n: int,
    m: int,
    rank: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
    kernel: tuple[int, ...] = (),
) -> LowRank:
    """A Gaussian factor pair."""
    u = torch.randn(n, rank, generator=generator, dtype=torch.float64)
    v = torch.randn(m, rank, generator=generator, dtype=torch.float64)
    return LowRank(u.to(dtype), v.to(dtype), kernel)


def random_lora(
    generator: torch.Generator, *, rank: int = 3, dtype: torch.dtype = torch.float64
) -> LoRA:
    """Four layers of three shapes, one a convolution, of ranks `rank`, 1, `rank`, 2."""
    return LoRA(
        {
            "b.0.q": random_pair(8, 6, rank, generator, dtype),
            "b.0.v": random_pair(5, 6, 1, generator, dtype),
            "b.1.q": random_pair(8, 6, rank, generator, dtype),
            "b.1.conv": random_pair(4, 18, 2, generator, dtype, kernel=(3, 3)),
        }
    )
