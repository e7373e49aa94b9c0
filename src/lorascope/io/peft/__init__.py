"""PEFT: an adapter folder of `adapter_model.safetensors` and `adapter_config.json`, read and written."""
