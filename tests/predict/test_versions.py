from importlib.metadata import PackageNotFoundError

import pytest
import torch

import lorascope
from lorascope.predict import versions as module
from lorascope.predict.versions import versions


def test_they_are_those_of_what_runs():
    found = versions()
    assert found["lorascope"] == lorascope.__version__
    assert torch.__version__.startswith(found["torch"].split("+")[0])


def test_a_package_without_metadata_is_unknown(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", missing)
    assert versions() == {"lorascope": "unknown", "torch": "unknown"}
