"""The producer of zoos: many small LoRAs finetuned at once on one frozen base, each labelled.

family (seed -> data, hyper-parameters) -> FitJob -> fit_adapters -> Fitted -> labels -> shards
"""
