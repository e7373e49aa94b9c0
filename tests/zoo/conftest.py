"""Tiny bases and jobs that the tests of the zoo share."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.language.jobs import FitJob
from lorascope.zoo.factory.build import build_zoo
from lorascope.zoo.families import FacesFamily
from tests.zoo.brief_faces import brief_base, brief_folder

__all__ = ["brief_base", "brief_folder"]  # fixtures

SIZES = {
    "vocab_size": 40,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}


class ExactNorm(torch.nn.Module):
    """RMSNorm in the dtype of its input; transformers' own rounds to float32 even in float64."""

    def __init__(self, other):
        super().__init__()
        self.weight, self.epsilon = other.weight, other.variance_epsilon

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon))


def make_base(kind="qwen2", dtype=torch.float64, **changes):
    """A random base; norms and biases are not left at their trivial starting values."""
    torch.manual_seed(1)
    config, model = {
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "llama": (LlamaConfig, LlamaForCausalLM),
    }[kind]
    base = model(config(**{**SIZES, **changes})).to(dtype).eval()
    with torch.no_grad():
        for name, weight in base.named_parameters():
            if "norm" in name or "bias" in name:
                weight.add_(0.2 * torch.randn_like(weight))
            else:
                weight.mul_(4)
    if dtype == torch.float64:
        for name, module in list(base.named_modules()):
            if type(module).__name__.endswith("RMSNorm"):
                base.set_submodule(name, ExactNorm(module))
    return base.requires_grad_(False)


def make_job(seed, *, examples=20, length=9, **changes):
    """Random tokens; the last tokens have weight 1, the one before them .1, some rows are short."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(40, (examples, length), generator=generator)
    weights = torch.zeros(examples, length)
    weights[:, -3:] = 1
    weights[:, -4] = 0.1
    weights[::3, -1] = 0
    fields = {
        "learning_rate": 3e-3,
        "weight_decay": 0.02,
        "epochs": 2,
        "batch_size": 8,
        "dropout": 0.1,
    }
    return FitJob(seed=seed, tokens=tokens, weights=weights, **{**fields, **changes})


@pytest.fixture(scope="session")
def second_zoo(tmp_path_factory):
    """One LoRA of the second tiny Stable Diffusion, which is completed at first use, of few steps."""
    recipe = {"seed": 5, "base": "faces-second", "ranges": {"steps": {"choice": [5]}}}
    folder = tmp_path_factory.mktemp("second") / "zoo"
    plain = {"processes": 0, "compile": False, "progress": False, "dtype": torch.float32}
    return build_zoo(FacesFamily(recipe), 1, folder, **plain)


@pytest.fixture(scope="session")
def spec():
    return AdapterSpec(("q_proj", "v_proj"), rank=3, alpha=8)


@pytest.fixture(scope="session")
def base():
    return make_base()
