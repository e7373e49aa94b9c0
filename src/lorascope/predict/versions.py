"""Which versions made a result: recorded beside predictors and benchmark runs."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["versions"]


def versions() -> dict[str, str]:
    """The installed versions of lorascope and torch ("unknown" where one runs from bare files).

    Example:
        >>> sorted(versions())
        ['lorascope', 'torch']
    """
    return {name: _installed(name) for name in ("lorascope", "torch")}


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
