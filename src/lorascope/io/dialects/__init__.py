"""How programs spell the keys of LoRA files: a file per grammar, brought together by `table.py`."""
