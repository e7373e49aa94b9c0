"""An example of docs/recipes.md as a user runs it: copied from the page into a file of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def run_example(name, folder, *words):
    """Run the example that is the file `examples/NAME.py`, copied from the page to a folder, to its end."""
    page = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (code,) = [block for block in blocks if f"python {name}.py" in block.splitlines()[0]]
    assert code == (ROOT / f"examples/{name}.py").read_text(encoding="utf-8")
    file = folder / f"{name}.py"
    file.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, file, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
