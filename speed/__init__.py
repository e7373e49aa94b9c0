"""Timing scripts; `python -m speed` runs them all and prints the ratios."""
