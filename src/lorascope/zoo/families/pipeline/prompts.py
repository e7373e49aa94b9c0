"""The 33 prompts that every finetuned Stable Diffusion is scored on.

The paper takes 30 of the PartiPrompts and 3 of its own and does not print them (section 5.2); these
are of the same kinds: people, animals, things, places, and a few that ask for a style or a count.
"""

__all__ = ["PROMPTS"]

PROMPTS = (
    "a portrait of a young woman with curly hair",
    "a photo of an old fisherman with a grey beard",
    "a man in a suit reading a newspaper",
    "a girl laughing under an umbrella",
    "two children building a sandcastle",
    "a doctor with glasses and a stethoscope",
    "a person riding a bicycle through the rain",
    "a woman playing the violin on a stage",
    "a close-up of a smiling face",
    "a crowd at a concert, seen from behind",
    "a cat asleep on a windowsill",
    "a brown horse in a snowy field",
    "an owl on a branch at night",
    "three goldfish in a round bowl",
    "an elephant spraying water",
    "a red apple next to a green book",
    "a wooden chair in an empty room",
    "a steaming cup of coffee on a table",
    "a blue vintage car parked by the sea",
    "a pair of worn leather boots",
    "a stack of pancakes with berries",
    "a white sailing boat on a calm lake",
    "a lighthouse on a cliff at sunset",
    "a narrow street in an old town",
    "a mountain reflected in a lake",
    "a city skyline at night, from above",
    "a forest path in autumn",
    "a small house with a thatched roof",
    "an oil painting of a vase of sunflowers",
    "a pencil sketch of a castle",
    "a watercolour of a harbour in the morning",
    "a robot made of old clocks",
    "a map of an imaginary island",
)
