"""What the paper prints of its own zoos, for orientation: other data, other bases, other splits.

Putterman et al., "Learning on LoRAs", arXiv 2410.04207, tables 2 to 5. Its zoos have 3,900, 2,046 and 2,000
LoRAs. What it calls R^2 of CLIP scores is Spearman's correlation in its code. Nearly half of its test
celebrities are also in training.
"""

from collections.abc import Mapping

from lorascope.bench.markdown import table

__all__ = ["PUBLISHED", "published"]

HEADS = (
    "CLIP score, Spearman (CelebA-LoRA)",
    "5 attributes, accuracy (CelebA-LoRA)",
    "10 classes, accuracy (Imagenette-LoRA)",
    "data set size, accuracy (Imagenette-LoRA)",
    "19 sources, accuracy (Qwen2-ARC-LoRA)",
    "validation loss, R^2 (Qwen2-ARC-LoRA)",
    "ARC-C accuracy, R^2 (Qwen2-ARC-LoRA)",
)
#: Model -> what stands in the paper, in the order of the columns.
PUBLISHED: Mapping[str, tuple[str, ...]] = {
    "MLP": (".333 ±.022", ".724", ".496", ".209", ".516", ".113 ±.059", ".107 ±.035"),
    "MLP + O-Align": (".856 ±.004", ".872", ".878", ".352", ".550", ".821 ±.078", ".965 ±.004"),
    "MLP + SVD": (".863 ±.006", ".773", ".656", ".731", ".551", ".999 ±.000", ".983 ±.002"),
    "MLP + Dense": (".871 ±.005", ".891", ".889", ".316", ".625", ".987 ±.003", ".981 ±.002"),
    "GL-net": (".884 ±.003", ".913", ".904", ".468", ".605", ".998 ±.000", ".987 ±.001"),
}
NOTE = (
    "For orientation only: other bases, other data and other splits, so no number here can be compared "
    "with one above. The paper has no controls; from its published hyper-parameters, always answering the "
    "majority of the 19 sources gives .539, and knowing only how many were dropped .757."
)


def published() -> list[str]:
    """The section with the paper's numbers."""
    rows = [[name, *values] for name, values in PUBLISHED.items()]
    return ["## The paper's own numbers", "", NOTE, "", *table(["", *HEADS], rows)]
