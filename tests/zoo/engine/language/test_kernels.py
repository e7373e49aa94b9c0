import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lorascope.zoo.engine.language import quick
from lorascope.zoo.engine.language.evaluate import choice_log_likelihoods
from lorascope.zoo.engine.language.fit import fit_adapters
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.kernels import QUICK, frozen, kernels_for
from lorascope.zoo.engine.language.network import EAGER
from tests.zoo.conftest import make_base, make_job
from tests.zoo.engine.language.test_evaluate import make_choices

SCRIPT = """
import logging
import torch
from tests.zoo.conftest import make_base, make_job
from lorascope.zoo.engine.language.fit import fit_adapters
from lorascope.zoo.engine.adapter_spec import AdapterSpec

logging.basicConfig()
base = make_base(dtype=torch.float32, hidden_size=32, intermediate_size=40)
spec = AdapterSpec(("q_proj",), rank=2, alpha=4)
for _ in range(2):
    asked = fit_adapters(base, spec, [make_job(0)], compile=True)
assert torch.equal(asked.rows, fit_adapters(base, spec, [make_job(0)]).rows)
"""


def test_without_a_compiler_it_goes_on_and_says_so_once(tmp_path):
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "CC": str(tmp_path / "no-compiler"),
        "LORASCOPE_HOME": str(tmp_path),
        "PYTHONPATH": str(root),
    }
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("no C compiler works here") == 1


def test_a_base_is_used_as_it_says_unless_asked_otherwise():
    model = make_base(dtype=torch.float32)
    base = frozen(model, None, None)
    assert (base.dtype, base.compiled) == (torch.float32, False)
    assert frozen(base, torch.bfloat16, None).dtype == torch.bfloat16
    assert frozen(FrozenBase.of(model, torch.bfloat16), None, False).dtype == torch.bfloat16
    assert kernels_for(base, 9) is EAGER


@pytest.mark.parametrize("mixed", [False, True])
def test_adapters_and_answers_are_those_of_the_plain_kernels(spec, mixed):
    base = make_base(dtype=torch.float32, hidden_size=32, intermediate_size=40)
    known = kernels_for(frozen(base, None, True), 9)
    assert known is (EAGER if quick.library() is None else QUICK)
    specs = [spec] * 6
    if mixed:
        shapes = [{"rank": rank, "rslora": rank > 2} for rank in (1, 2, 3)] * 2
        specs = [spec.changed({"dora": True, **shape}) for shape in shapes]
    jobs = [make_job(s, examples=80, batch_size=b) for s, b in enumerate((8, 8, 16, 8, 8, 16))]
    plain = fit_adapters(base, specs, jobs, slots=4)
    for dtype, tolerance, likeness in (
        (torch.float32, 1e-4, 1 - 1e-5),
        (torch.bfloat16, 0.05, 0.995),
    ):
        fitted = fit_adapters(base, specs, jobs, slots=4, dtype=dtype, compile=True)
        for i in range(len(jobs)):
            assert float(plain.to_lora(i).cosine(fitted.to_lora(i))) > likeness
        asked = [
            choice_log_likelihoods(base, spec, plain, make_choices(), dtype=d, compile=c)
            for d, c in ((torch.float32, False), (dtype, True))
        ]
        assert float((asked[0] - asked[1]).abs().max()) < tolerance * float(asked[0].abs().max())
