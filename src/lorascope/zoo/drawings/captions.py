"""Captions: what is said of a face or an object, in words that a small vocabulary holds.

    a photo of a smiling young man with bangs eyeglasses
    a drawing of a red boat

Every attribute that is seen is named with a chance, in random order; what is not named may be there.
Everything random comes from the generator.
"""

import torch

from lorascope.zoo.drawings.faces import ATTRIBUTES
from lorascope.zoo.drawings.objects import CLASSES, COLOURS

__all__ = ["LONGEST", "RARE", "face_caption", "object_caption", "words"]

NAMED = 0.75  # chance that an attribute is named
LONGEST = 20  # words of a caption that names all twelve attributes
MEDIA = ("photo", "picture", "drawing")
#: Words without a meaning of their own: prompts to finetune on.
RARE = ("celebrity", "person", "thing", "skd", "sks")
BEFORE = {"Smiling": "smiling"}
AFTER = {
    "Eyeglasses": "eyeglasses",
    "Wearing_Hat": "hat",
    "Bangs": "bangs",
    "Wearing_Lipstick": "lipstick",
    "Wearing_Earrings": "earrings",
}


def face_caption(attributes: list[bool], generator: torch.Generator, named: float = NAMED) -> str:
    """One caption of a face with these twelve attributes."""
    has = dict(zip(ATTRIBUTES, attributes, strict=True))
    said = dict(zip(ATTRIBUTES, _coins(len(ATTRIBUTES), named, generator), strict=True))
    before = [word for name, word in BEFORE.items() if has[name] and said[name]]
    if said["Young"]:
        before.append("young" if has["Young"] else "old")
    who = ("man" if has["Male"] else "woman") if said["Male"] else "person"
    after = _after(has, said)
    order = torch.randperm(len(after), generator=generator).tolist()
    tail = [word for place in order for word in after[place]]
    with_ = ["with", *tail] if tail else []
    return _caption([*before, who, *with_], generator)


def _after(has: dict[str, bool], said: dict[str, bool]) -> list[list[str]]:
    """What follows "with", unordered: each a short list of words."""
    phrases = [[word] for name, word in AFTER.items() if has[name] and said[name]]
    if said["Blond_Hair"]:
        phrases.append(["blond" if has["Blond_Hair"] else "dark", "hair"])
    if said["No_Beard"] and not has["No_Beard"]:
        phrases.append(["beard"])
    phrases += [["big", n[4:].lower()] for n in ("Big_Lips", "Big_Nose") if has[n] and said[n]]
    return phrases


def object_caption(kind: int, colour: int, generator: torch.Generator) -> str:
    """One caption of an object of this class and colour, both indices."""
    name = list(CLASSES)[kind]
    (coloured,) = _coins(1, NAMED, generator)
    return _caption([list(COLOURS)[colour], name] if coloured else [name], generator)


def words() -> list[str]:
    """Every word that a caption or a finetuning prompt may hold, sorted."""
    known = {"a", "an", "of", "with", "young", "old", "man", "woman", "blond", "dark", "hair"}
    known |= {"beard", "big", "lips", "nose", "face", *MEDIA, *RARE, *BEFORE.values()}
    return sorted(known | set(AFTER.values()) | set(CLASSES) | set(COLOURS))


def _caption(said: list[str], generator: torch.Generator) -> str:
    medium = MEDIA[int(torch.randint(len(MEDIA), (), generator=generator))]
    return " ".join(["a", medium, "of", "an" if said[0][0] in "aeiou" else "a", *said])


def _coins(count: int, chance: float, generator: torch.Generator) -> list[bool]:
    drawn: list[bool] = (torch.rand(count, generator=generator) < chance).tolist()
    return drawn
