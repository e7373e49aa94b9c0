"""The provenance of a LoRA as text, for the index of a zoo.

Equal provenances give equal text, which parquet stores once for a whole column.
"""

import json

from lorascope.core import Provenance, Scale
from lorascope.errors import IntegrityError

__all__ = ["dump_provenance", "load_provenance"]


def dump_provenance(provenance: Provenance) -> str:
    """Provenance as JSON, keys sorted; what JSON has no word for in the config is kept as text."""
    data = {
        "format": provenance.format,
        "source": provenance.source,
        "base": provenance.base,
        "writer": provenance.writer,
        "scales": {
            name: [scale.alpha, scale.rank, scale.factor, scale.rule]
            for name, scale in provenance.scales.items()
        },
        "ambiguities": list(provenance.ambiguities),
        "notes": list(provenance.notes),
        "config": dict(provenance.config),
        "kinds": dict(provenance.kinds),
        "left": list(provenance.left),
    }
    return json.dumps(data, sort_keys=True, default=str)


def load_provenance(text: str) -> Provenance:
    """The inverse of `dump_provenance`. Raises IntegrityError for another text."""
    try:
        return _load(text)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise IntegrityError(
            f"Reading a stored provenance: found {text[:80]!r}, expected what dump_provenance wrote. "
            "Try: lorascope zoo verify, which names what was changed."
        ) from error


def _load(text: str) -> Provenance:
    data = json.loads(text)
    scales = {name: Scale(*values) for name, values in data.pop("scales").items()}
    ambiguities, notes = tuple(data.pop("ambiguities")), tuple(data.pop("notes"))
    left = tuple(data.pop("left", ()))
    return Provenance(**data, scales=scales, ambiguities=ambiguities, notes=notes, left=left)
