"""The bases of the exam: a tiny Qwen2 and a tiny Llama, a second version of each, and controls."""
