"""The command line: parse, call, print. Everything that it prints is computed in another room.

Commands import what they need when they run, so that `lorascope --help` answers at once and without torch.
"""

from lorascope.cli.app import app, main

__all__ = ["app", "main"]
