"""Causal language models: Qwen2 and Llama."""
