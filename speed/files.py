"""SD-sized LoRA files of rank 4, warm: headers, reading and full statistics beside safetensors.torch.load_file.

The files have the layers of Stable Diffusion 1.5 (UNet attention and text encoder, 264 modules, 792 tensors)
in kohya's grammar, fp16, 4 MB each. All ways take the same files in the same run, one thread, best of several
rounds. Bounds: headers at least 150 files a second a core, reading into a LoRA at most 2 x load_file, full
statistics (norms, spectra, finiteness; reading included) at most 3 x.

    python -m speed.files [--count 20] [--rounds 5]
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from lorascope.inspect.examine import examine
from lorascope.io.read import read_lora

HEADERS_AT_LEAST = 150
READING_AT_MOST, STATISTICS_AT_MOST = 2.0, 3.0
WIDTHS = {"down_blocks_0": 320, "down_blocks_1": 640, "down_blocks_2": 1280, "mid_block": 1280,
          "up_blocks_1": 1280, "up_blocks_2": 640, "up_blocks_3": 320}  # fmt: skip
TEXT, RANK = 768, 4


def layers() -> Iterator[tuple[str, int, int, int]]:
    """Name, n, m and kernel size (0 for a matrix) of each module, as sd-scripts names them."""
    for block, width in WIDTHS.items():
        for place in range({"d": 2, "m": 1, "u": 3}[block[0]]):
            stem = f"lora_unet_{block}_attentions_{place}"
            inner = f"{stem}_transformer_blocks_0"
            yield f"{stem}_proj_in", width, width, 1
            yield f"{stem}_proj_out", width, width, 1
            for attention, source in (("attn1", width), ("attn2", TEXT)):
                yield f"{inner}_{attention}_to_q", width, width, 0
                yield f"{inner}_{attention}_to_k", width, source, 0
                yield f"{inner}_{attention}_to_v", width, source, 0
                yield f"{inner}_{attention}_to_out_0", width, width, 0
            yield f"{inner}_ff_net_0_proj", 8 * width, width, 0
            yield f"{inner}_ff_net_2", width, 4 * width, 0
    for place in range(12):
        stem = f"lora_te_text_model_encoder_layers_{place}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"{stem}_self_attn_{name}", TEXT, TEXT, 0
        yield f"{stem}_mlp_fc1", 4 * TEXT, TEXT, 0
        yield f"{stem}_mlp_fc2", TEXT, 4 * TEXT, 0


def write(path: Path, seed: int) -> Path:
    """One file."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, n, m, kernel in layers():
        axes = (kernel, kernel) if kernel else ()
        down, up = (
            torch.randn(RANK, m, *axes, generator=draw),
            torch.randn(n, RANK, *axes, generator=draw),
        )
        tensors[f"{name}.lora_down.weight"] = (down / 50).half()
        tensors[f"{name}.lora_up.weight"] = (up / 50).half()
        tensors[f"{name}.alpha"] = torch.tensor(2.0).half()
    save_file(tensors, path, {"ss_network_dim": str(RANK), "ss_network_alpha": "2.0"})
    return path


def seconds_of(ask: Callable[[Path], object], paths: list[Path]) -> float:
    """Seconds of processor time a file: the machine may be shared."""
    began = time.process_time()
    for path in paths:
        ask(path)
    return (time.process_time() - began) / len(paths)


def main(arguments: list[str] | None = None) -> None:
    """Print milliseconds a file, files a second and the ratio to load_file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    ways: dict[str, Callable[[Path], object]] = {
        "load_file": load_file,
        "headers": lambda path: examine(path, headers=True),
        "read_lora": read_lora,
        "statistics": examine,
    }
    bounds = {
        "headers": f"at least {HEADERS_AT_LEAST} files/s",
        "read_lora": f"at most {READING_AT_MOST:g} x",
        "statistics": f"at most {STATISTICS_AT_MOST:g} x",
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            paths = [write(Path(folder) / f"{i}.safetensors", i) for i in range(options.count)]
            print(
                f"{options.count} files of {paths[0].stat().st_size / 1e6:.1f} MB, one thread, warm"
            )
            # rounds in turn, so that what else runs on the machine falls on every way
            rounds = [
                {n: seconds_of(ask, paths) for n, ask in ways.items()}
                for _ in range(options.rounds)
            ]
            best = {name: min(one[name] for one in rounds) for name in ways}
    finally:
        torch.set_num_threads(threads)
    for name, seconds in best.items():
        bound = f"  ({bounds[name]})" if name in bounds else ""
        print(
            f"  {name:10s} {1e3 * seconds:7.2f} ms {1 / seconds:7.0f} files/s "
            f"{seconds / best['load_file']:5.2f} x{bound}"
        )


if __name__ == "__main__":
    main()
