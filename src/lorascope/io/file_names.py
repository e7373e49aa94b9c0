"""The names under which weights come: what makes a folder one adapter, and the suffixes of weight files."""

__all__ = ["PICKLE_SUFFIXES", "WEIGHT_NAMES", "WEIGHT_SUFFIXES"]

#: What a folder of one adapter may hold, best first.
WEIGHT_NAMES = (
    "adapter_model.safetensors",
    "adapter_model.bin",
    "adapters.safetensors",
    "adapters.npz",
    "pytorch_lora_weights.safetensors",
    "pytorch_lora_weights.bin",
    "adapter_model.pt",
)
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
WEIGHT_SUFFIXES = frozenset({".safetensors", ".gguf", ".npz", *PICKLE_SUFFIXES})
