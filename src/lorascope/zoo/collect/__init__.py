"""Zoos from files that are already there: a folder of LoRAs with a table of labels."""
