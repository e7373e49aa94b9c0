"""What a file says about its own training: metadata of image trainers (ss_*, modelspec.*) and PEFT's config.

All of it is a stranger's text: it is shown escaped and trusted for nothing. Trigger words are the words that a
prompt should hold: where a trainer or an author wrote them down they are taken, and the commonest tags are
listed beside them, never guessed into them.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

__all__ = ["FIELDS", "UNTOLD", "Training", "network_arguments", "number_of", "training_of"]

# fact -> the keys that hold it, first come first
FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "title": ("modelspec.title", "ss_output_name"),
        "author": ("modelspec.author",),
        "base_version": ("ss_base_model_version", "modelspec.architecture"),
        "network": ("ss_network_module", "peft_type"),
        "dim": ("ss_network_dim", "r"),
        "alpha": ("ss_network_alpha", "lora_alpha"),
        "dropout": ("ss_network_dropout", "lora_dropout"),
        "learning_rate": ("ss_learning_rate",),
        "unet_learning_rate": ("ss_unet_lr",),
        "text_learning_rate": ("ss_text_encoder_lr",),
        "optimizer": ("ss_optimizer",),
        "scheduler": ("ss_lr_scheduler",),
        "steps": ("ss_steps", "ss_max_train_steps"),
        "epoch": ("ss_epoch",),
        "epochs": ("ss_num_epochs",),
        "images": ("ss_num_train_images",),
        "batch": ("ss_total_batch_size", "ss_batch_size_per_device"),
        "resolution": ("modelspec.resolution", "ss_resolution"),
        "clip_skip": ("ss_clip_skip",),
        "seed": ("ss_seed",),
        "started": ("ss_training_started_at",),
        "finished": ("ss_training_finished_at", "modelspec.date"),
        "loss": ("ss_loss_type",),
        "task": ("task_type",),
        "init": ("init_lora_weights",),
        "comment": ("ss_training_comment", "modelspec.description"),
        "license": ("modelspec.license",),
    }
)
ABSENT = (None, "", "None", "null", "[]", "{}")
MAX_WORDS = 32
MAX_CHARACTERS = 500
TAGS = 12


@dataclass(frozen=True)
class Training:
    """What is said about the training.

    Args:
        facts: of FIELDS those that are there, in that order.
        trigger_words: written down by the author or the trainer.
        tags: the commonest tags of the training images with their counts.
    """

    facts: Mapping[str, str | float | bool] = field(default_factory=dict)
    trigger_words: tuple[str, ...] = ()
    tags: tuple[tuple[str, int], ...] = ()


UNTOLD = Training()


def training_of(config: Mapping[str, Any]) -> Training:
    """What the metadata of a file, or the configuration beside it, say about its training.

    Example:
        >>> training_of({"ss_network_dim": "8", "modelspec.trigger_phrase": "sks, dog"}).trigger_words
        ('sks', 'dog')
    """
    facts: dict[str, str | float | bool] = {}
    for fact, keys in FIELDS.items():
        value = next((config[key] for key in keys if config.get(key) not in ABSENT), None)
        if isinstance(value, bool | int):
            facts[fact] = value
        elif isinstance(value, str | float):
            number = number_of(value)
            facts[fact] = str(value)[:MAX_CHARACTERS] if number is None else number
    counts = tag_counts(config)
    return Training(facts, tuple(trigger_words(config)), tuple(counts.most_common(TAGS)))


def number_of(text: object) -> float | None:
    """The finite number that a text is, None if it is none.

    Example:
        >>> number_of("1e-4"), number_of("Dynamic")
        (0.0001, None)
    """
    try:
        number = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    if not math.isfinite(number):
        return None
    return int(number) if abs(number) < 1e15 and number == int(number) else number


def network_arguments(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """`ss_network_args`, empty if absent or no table."""
    found = parsed(config.get("ss_network_args"))
    return found if isinstance(found, dict) else {}


def trigger_words(config: Mapping[str, Any]) -> list[str]:
    """Words that a prompt should hold, each once."""
    written = [
        str(config.get("modelspec.trigger_phrase") or ""),
        str(config.get("trigger_word") or ""),
    ]
    words = [word for phrase in written for word in phrase.split(",")]
    for table in dictionaries(parsed(config.get("ss_datasets"))):
        token = table.get("class_tokens")
        if isinstance(token, str):
            words += token.split(",")
    kept = dict.fromkeys(word.strip()[:MAX_CHARACTERS] for word in words)
    return [word for word in kept if word][:MAX_WORDS]


def tag_counts(config: Mapping[str, Any]) -> Counter[str]:
    """How often each tag stands in the captions, over all folders of images."""
    found: Counter[str] = Counter()
    table = parsed(config.get("ss_tag_frequency"))
    for tags in table.values() if isinstance(table, dict) else ():
        if isinstance(tags, dict):
            for tag, count in tags.items():
                if isinstance(count, int) and 0 < count < 10**9:
                    found[tag.strip()[:MAX_CHARACTERS]] += count
    return found


def dictionaries(data: Any) -> Iterator[Mapping[str, Any]]:
    """All tables in a list of tables that may hold further lists, such as datasets of subsets."""
    waiting: list[Any] = [data]
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, dict):
            yield item
            waiting += children(item.values())
        elif isinstance(item, list):
            waiting += item[:1000]


def children(values: Iterable[Any]) -> list[Any]:
    """Those that may hold a table."""
    return [value for value in values if isinstance(value, dict | list)]


def parsed(text: object) -> Any:
    """The JSON that a text holds, None if it is none: metadata keeps tables as text."""
    if not isinstance(text, str) or text[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
