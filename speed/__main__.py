"""Run every timing script, or those named: python -m speed [zoo] [gl_net]."""

import argparse
import importlib
import os

# As the command line does: huge pages, where the system leaves them to choice, are read twice as fast.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

#: name -> module of this folder, its arguments, what it times
SCRIPTS = {
    "files": ("files", [], "headers, reading and statistics of LoRA files against load_file"),
    "gram": ("gram", [], "Gram matrices of 2,000 LoRAs, against the dense way"),
    "gl_net": ("gl_net", [], "GL-net forward against a bare read and a loop over layers"),
    "default_model": ("default_model", [], "fusion's whole forward against a bare read"),
    "zoo": ("zoo", [], "labelled exam adapters a minute against PEFT one by one"),
    "faces": ("zoo", ["--family", "faces"], "labelled faces a minute against PEFT one by one"),
    "shapes": ("zoo_shapes", [], "on a GPU: adapters of real shapes at once against one by one"),
    "evaluation": ("evaluation", [], "prediction from weights against standard evaluation"),
    "sizes": ("sizes", [], "time and memory at the sizes of GPT-3"),
    "fit": ("fit", [], "how long the default model learns on the zoo of faces"),
}
LONG = ("evaluation", "sizes", "fit")  # half an hour together, and a zoo: only by name


def main() -> None:
    """Run the scripts one after another; each prints its own table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"of {', '.join(SCRIPTS)}")
    usual = [name for name in SCRIPTS if name not in LONG]
    for name in parser.parse_args().scripts or usual:
        module, arguments, what = SCRIPTS[name]
        print(f"\n{name}: {what}", flush=True)
        importlib.import_module(f"speed.{module}").main(arguments)


if __name__ == "__main__":
    main()
