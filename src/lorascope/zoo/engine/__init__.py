"""Many adapters finetuned, sampled and asked at once on one frozen base, each as if it were alone."""
