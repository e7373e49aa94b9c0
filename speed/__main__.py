"""Run every timing script, or those named: python -m speed [zoo] [gl_net]."""

import argparse
import importlib

SCRIPTS = {
    "files": "headers, reading and statistics of LoRA files against load_file",
    "gram": "Gram matrices of 2,000 LoRAs, against the dense way",
    "gl_net": "GL-net forward against a bare read and a loop over layers",
    "evaluation": "prediction against standard evaluation of one adapter (long)",
    "sizes": "GL-net and the default model at GPT-3 sizes, 125M to 175B",
    "zoo": "labelled adapters a minute against PEFT one by one",
}


def main() -> None:
    """Run the scripts one after another; each prints its own table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"of {', '.join(SCRIPTS)}")
    for name in parser.parse_args().scripts or SCRIPTS:
        print(f"\n{name}: {SCRIPTS[name]}", flush=True)
        importlib.import_module(f"speed.{name}").main([])


if __name__ == "__main__":
    main()
