"""Benchmarks: targets x models x seeds on the same splits, controls included, and their table."""

from lorascope.bench.report import read_table, write_report
from lorascope.bench.results import Plan, Result, load_plan, load_results
from lorascope.bench.run import run_bench

__all__ = [
    "Plan",
    "Result",
    "load_plan",
    "load_results",
    "read_table",
    "run_bench",
    "write_report",
]
