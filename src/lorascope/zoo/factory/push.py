"""A zoo on the Hugging Face Hub: a data set's repository with the files of the zoo and its card.

Private unless asked otherwise. Only files that make a zoo go: recipe, index, shards, splits, report, card.
build.jsonl names hosts and stays here unless asked for. The token is huggingface_hub's own ($HF_TOKEN, or
what `hf auth login` stored): it is no argument, so it stands in no history and no message.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorascope.errors import DataError, FileError, IntegrityError, MissingExtraError
from lorascope.io.shards import open_zoo
from lorascope.zoo.factory.card import write_card
from lorascope.zoo.factory.shown import SHOWN
from lorascope.zoo.factory.verify import verify_zoo

__all__ = ["Parcel", "files_to_push", "push_zoo"]

# what the Hub takes: no mark at an end, none twice
REPO = re.compile(r"(?!.*(--|\.\.))(?!.*\.git$)\b[\w.-]+\b/\b[\w.-]{1,96}\b", re.ASCII)

SINGLE = ("README.md", "recipe.json", "counts.json", "index.parquet", "splits.json", "report.json")
LOG = "build.jsonl"


@dataclass(frozen=True)
class Parcel:
    """What goes where."""

    repo: str
    private: bool
    files: tuple[tuple[str, int], ...]  # path in the repository, bytes
    url: str = ""  # of the commit; empty where nothing was sent

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(size for _, size in self.files)


def files_to_push(folder: Path, *, with_log: bool = False) -> tuple[tuple[str, int], ...]:
    """The files of a zoo that go, with their sizes, in a fixed order."""
    names = [*SINGLE, *SHOWN, *([LOG] if with_log else [])]
    paths = [folder / name for name in names if (folder / name).is_file()]
    for pattern in ("shard-*.safetensors", "shard-*.parquet"):
        paths += sorted((folder / "shards").glob(pattern))
    return tuple((path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths)


def push_zoo(
    folder: str | Path,
    repo: str,
    *,
    public: bool = False,
    with_log: bool = False,
    dry_run: bool = False,
    verify: bool = True,
) -> Parcel:
    """Send a zoo to a data set's repository on the Hub, which is made if it is not there.

    A push that broke off goes on: what is there already is not sent again.

    Args:
        repo: USER/NAME or ORGANISATION/NAME.
        public: make a new repository public; one that is there keeps what it is.
        with_log: send build.jsonl too, with times, hosts and failures.
        dry_run: send nothing and ask nobody; the answer says what would go.
        verify: check every hash first.

    Raises:
        DataError: the name is none of a repository.
        FileError: the folder is no zoo, or the Hub did not take it.
        IntegrityError: the zoo is damaged.
        MissingExtraError: huggingface_hub is not installed.
    """
    zoo = open_zoo(folder)
    if not REPO.fullmatch(repo):
        raise DataError(
            f"Pushing {folder}: found the repository {repo!r}, expected USER/NAME of letters, digits, '-', '_' "
            "and '.', such as anna/my-zoo."
        )
    if verify:
        refuse_damaged(zoo.path)
    if not (zoo.path / "README.md").is_file():
        write_card(zoo)
    parcel = Parcel(repo, not public, files_to_push(zoo.path, with_log=with_log))
    return parcel if dry_run else _send(zoo.path, parcel)


def refuse_damaged(folder: Path) -> None:
    """Raise IntegrityError for a zoo that does not hold what its build wrote."""
    findings = verify_zoo(folder).findings
    if findings:
        first = findings[0]
        raise IntegrityError(
            f"Pushing {folder}: {len(findings)} of its checks fail, the first: {first.place} "
            f"{first.message}. Try: lorascope zoo verify {folder}."
        )


def _send(folder: Path, parcel: Parcel) -> Parcel:
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError as missing:
        raise MissingExtraError("huggingface_hub", "hub", "pushing a zoo") from missing
    disable_progress_bars()
    api = HfApi(library_name="lorascope")
    with _told(parcel.repo, api.endpoint):
        api.create_repo(
            parcel.repo,
            repo_type="dataset",
            private=True if parcel.private else None,
            exist_ok=True,
        )
        done = api.upload_folder(
            repo_id=parcel.repo,
            repo_type="dataset",
            folder_path=folder,
            allow_patterns=[name for name, _ in parcel.files],
            commit_message=f"lorascope zoo of {len(open_zoo(folder))} LoRAs",
        )
    return Parcel(parcel.repo, parcel.private, parcel.files, str(done.commit_url))


@contextlib.contextmanager
def _told(repo: str, endpoint: str) -> Iterator[None]:
    """Errors of the Hub and of the network as one message without the token."""
    try:
        yield
    except _hub_errors() as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise FileError(
            f"Pushing to {repo} on {endpoint}: {_without_token(text)}. Try: hf auth login with a token "
            "that may write there, or --dry-run to see what would go."
        ) from None


def _hub_errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub raises where the Hub refuses or cannot be reached."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # its bases name the transport's own errors, whichever library that is
    return (*HfHubHTTPError.__bases__, HFValidationError, OSError)


def _without_token(text: str) -> str:
    """A message with the token, should it be in it, replaced."""
    from huggingface_hub import get_token

    token: Any = get_token()
    return text.replace(token, "(token)") if token else text
