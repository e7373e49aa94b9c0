"""All that is known of training LoRAs as numbers: what a model may learn a target from beside its own labels.

    labels of every target, then every hyper-parameter that is no target; the logarithm of one that is
    positive and spans more than a factor of ten; each column standardised over the rows that know it

Only a training reads it. A predictor never asks for a label or a hyper-parameter.
"""

import numpy as np
from numpy.typing import NDArray

from lorascope.train.data import LabelledLoRAs
from lorascope.train.splits import Rows

__all__ = ["known_beside"]

Array = NDArray[np.float64]
LEAST_KNOWN = 0.5  # of the rows: a column that fewer know is left out
SPAN = 10.0


def known_beside(data: LabelledLoRAs, rows: Rows) -> Array:  # (b, a)
    """The columns for some rows: mean 0 and deviation 1, 0 where a row's entry is missing.

    Constant columns are left out.
    """
    hyper = [name for name in data.hyper if name not in data.targets]
    columns = [data.labels[name][rows] for name in data.targets]
    columns += [
        _straight(np.asarray(data.hyper[name], dtype=np.float64)[rows, None]) for name in hyper
    ]
    table = np.concatenate(columns, 1) if columns else np.zeros((len(rows), 0))
    known = np.isfinite(table)
    kept = known.mean(0) >= LEAST_KNOWN if len(rows) else np.zeros(table.shape[1], dtype=bool)
    table, known = table[:, kept], known[:, kept]
    count = known.sum(0)
    centred = np.where(known, table - np.where(known, table, 0.0).sum(0) / count, 0.0)
    deviation = np.sqrt(np.square(centred).sum(0) / count)
    varies = deviation > 1e-9 * np.abs(np.where(known, table, 0.0)).max(axis=0, initial=1e-30)
    found: Array = centred[:, varies] / deviation[varies]
    return found


def _straight(column: Array) -> Array:
    """The logarithm of a column whose size is what matters."""
    known = column[np.isfinite(column)]
    if len(known) and known.min() > 0 and known.max() > SPAN * known.min():
        logarithm: Array = np.log10(
            column, where=np.isfinite(column), out=np.full_like(column, np.nan)
        )
        return logarithm
    return column
