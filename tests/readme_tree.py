"""The tree of the README, one remark a file: the first sentence of each file's docstring.

python -m tests.readme_tree    # puts it into README.md
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/lorascope"
README = ROOT / "README.md"
BEGIN, END = "<!-- tree -->\n", "<!-- end of tree -->\n"
WIDTH = 112


def remark(path: Path) -> str:
    """The first sentence of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[a-z0-9)`\]])(?<!et al)\.(?: |$)", first)[0].rstrip(":.")


def cut(line: str) -> str:
    """A line that fits, cut between words."""
    if len(line) <= WIDTH:
        return line
    return line[: WIDTH - 3].rpartition(" ")[0].rstrip(" ,;:(") + "..."


def tree() -> str:
    """Folders with their files, each with its remark."""
    lines = []
    folders = [SOURCE, *sorted(p for p in SOURCE.rglob("*") if p.is_dir())]
    for folder in folders:
        files = sorted(folder.glob("*.py"))
        if not files:
            continue
        relative = folder.relative_to(SOURCE.parent)
        depth = len(relative.parts) - 1
        head = remark(folder / "__init__.py") if (folder / "__init__.py").exists() else ""
        lines.append(f"{'  ' * depth}{folder.name}/  {head}".rstrip())
        for file in files:
            if file.name != "__init__.py":
                lines.append(f"{'  ' * (depth + 1)}{file.name}  {remark(file)}")
    return "```\n" + "\n".join(map(cut, lines)) + "\n```\n"


def main() -> None:
    """Write the tree into the README."""
    text = README.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    README.write_text(f"{before}{BEGIN}{tree()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
