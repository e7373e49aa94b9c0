"""What every file must leave standing: no crash, no hang, no memory, no error but ours.

`survive` looks at a file in both ways (values, header) and raises whatever is wrong. It is the body of the
mutation tests and of the fuzz target.
"""

import json
import time
from pathlib import Path

from lorascope.cli.output import without_nan
from lorascope.inspect.examine import Examined, examine

SECONDS = 2.0
MEBIBYTE = 1 << 20


class SurvivalError(AssertionError):
    """A limit was broken."""


def survive(path: Path, *, memory: bool = True) -> Examined:
    """Examine a file within the limits; the result of reading its values."""
    before = restart_peak() if memory else None
    began = time.process_time()
    result = examine(path, allow_pickle=True)
    header = examine(path, headers=True)
    for one in (result, header):
        json.dumps(without_nan(one.to_json()), allow_nan=False)
    spent = time.process_time() - began
    if spent > SECONDS:
        raise SurvivalError(f"{spent:.1f} s, expected at most {SECONDS}")
    taken = peak() - before if before is not None else 0
    limit = 10 * path.stat().st_size + 64 * MEBIBYTE
    if taken > limit:
        raise SurvivalError(f"{taken / MEBIBYTE:.0f} MiB, expected at most {limit / MEBIBYTE:.0f}")
    return result


def restart_peak() -> int | None:
    """Bytes in use, from which the peak is counted anew; None where the system does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return status("VmRSS")
    except (OSError, ValueError):
        return None


def peak() -> int:
    """The most bytes that were in use since `restart_peak`."""
    return status("VmHWM")


def status(name: str) -> int:
    """A line of the process's own account, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(name))
    return int(line.split()[1]) * 1024
