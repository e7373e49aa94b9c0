"""What the log of a build says of the machine, and how little that costs."""

import json
import shutil
import sys
from importlib.metadata import version

import pytest
import torch

import lorascope
from lorascope import compiled as kernels
from lorascope.zoo.factory.log import build_events
from lorascope.zoo.factory.machine import VERSIONS, machine

CPU = torch.device("cpu")


def test_it_names_what_computes():
    facts = machine(None, None, CPU, compiled=False)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["lorascope"] == lorascope.__version__
    assert facts["transformers"] == version("transformers")
    assert facts["diffusers"] == version("diffusers")
    assert facts["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert "compiler" not in facts
    assert "peft" not in facts
    assert {*VERSIONS} - {"compiler"} <= set(facts)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_compiler_is_named_where_kernels_are_compiled(monkeypatch):
    named = machine(0, None, CPU, compiled=True)["compiler"]
    assert named == kernels.compiler_version()
    assert any(digit in named for digit in "0123456789")
    monkeypatch.setenv("CC", "/no/such/compiler")
    assert "compiler" not in machine(0, None, CPU, compiled=True)


def test_a_build_logs_it(exam_zoo):
    start = next(event for event in build_events(exam_zoo.path) if event["event"] == "start")
    assert {*VERSIONS} - {"compiler"} <= set(start)
    assert start["compiled"] is False
