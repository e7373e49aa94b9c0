"""lorascope learns on LoRAs: it takes the weights of adapters as data."""

__version__ = "0.1.0"
