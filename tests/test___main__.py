"""`python -m lorascope`."""

import subprocess
import sys


def test_the_module_is_the_command_line():
    command = [sys.executable, "-m", "lorascope", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("lorascope ")
