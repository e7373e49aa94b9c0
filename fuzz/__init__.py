"""Coverage-guided fuzzing of the readers: `make fuzz`, or python -m fuzz --seconds 60."""
