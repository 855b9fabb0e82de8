"""Check the English of the book and the module: `make lint` calls this.

Sentences are taken from pages, from the notebooks' text, and from docstrings, comments and messages in code; markup,
mathematics and code are left out. They go through proselint and through the house's own list in `book/prose.yml`.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import yaml
from proselint.checks import __register__ as PROSELINT

ROOT = Path(__file__).resolve().parent.parent
RULES = yaml.safe_load((ROOT / "book" / "prose.yml").read_text(encoding="utf-8"))
CHECKS = [check for check in PROSELINT if not check.path.startswith(tuple(RULES["leave out of proselint"]))]
HOUSE = {re.compile(rf"\b(?:{pattern})\b", re.I): advice for pattern, advice in RULES["house"].items()}
FENCE = re.compile(
    r"^(?P<fence>`{3,}|~{3,})(?!\{(?:note|tip|hint|admonition|glossary|warning|caution)).*?^(?P=fence)`*\s*$",
    re.M | re.S,
)
MARKUP = [  # in this order; line breaks are kept, so that a finding names its line
    FENCE,
    re.compile(r"\$\$.*?\$\$(?:[ ]*\([\w-]+\))?|\$[^$\n]+\$", re.S),
    re.compile(r"^\((?:[\w-]+)\)=$|^:[\w-]+:.*$|^:::.*$|^```.*$", re.M),
    re.compile(r"\{[\w:-]+\}`(?=[^`]*<)|<[^<>`]*>`"),  # the title of a role is read, its target is not
    re.compile(r"\{[\w:-]+\}`[^`]*`|`+[^`]*`+"),
    re.compile(r"\]\([^)\s]*\)|https?://\S+|<[^<>\n]*>"),
]


def plain(text: str) -> str:
    """Markdown reduced to its English; numbered words X1, X2 replace code and mathematics."""
    numbers = count(1)
    for pattern in MARKUP:
        text = pattern.sub(lambda found: f" X{next(numbers)} " + "\n" * found[0].count("\n"), text)
    return text


def of_python(source: str) -> Iterator[tuple[int, str]]:
    """Docstrings, comments and other strings, each with its line."""
    tree = ast.parse(source)
    pieces = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        text = ""
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "``" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in pieces:
            text = re.sub(r"^ {4,}.*$", "", inspect.cleandoc(node.value), flags=re.M)  # examples are indented
        if len(re.findall(r"\b[a-z]{2,}\b", text)) >= 3:  # shapes, names and paths are not English
            yield node.lineno, text
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


def of_notebook(text: str) -> Iterator[tuple[str, str]]:
    for number, cell in enumerate(json.loads(text)["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield f"cell {number}", plain(source)
        else:  # magics are not Python
            code = re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)
            yield from ((f"cell {number}, line {line}", plain(found)) for line, found in of_python(code))
            meta = cell["metadata"].get("mystnb", {})
            yield f"caption of cell {number}", plain(meta.get("figure", {}).get("caption", ""))
            yield f"alt text of cell {number}", meta.get("image", {}).get("alt", "")


def sentences(file: Path) -> Iterator[tuple[str, str]]:
    """Pieces of English in a file, each with its place."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".ipynb":
        yield from of_notebook(text)
    elif file.suffix == ".py":
        yield from ((f"line {line}", plain(found)) for line, found in of_python(text))
    elif file.suffix == ".js":  # strings and remarks
        for found in re.finditer(r"\"([^\"\n]+)\"|`([^`]+)`|//(.*)", text):
            said = re.sub(r"\$\{[^}]*\}", "``", next(filter(None, found.groups()), ""))
            if len(re.findall(r"\b[a-z]{2,}\b", said)) >= 3:
                yield f"line {text.count(chr(10), 0, found.start()) + 1}", plain(said)
    else:
        yield "", plain(text)


def findings(text: str) -> Iterator[tuple[int, str]]:
    """Line within the piece and what is wrong there."""
    padded = f"\n{text}\n"  # proselint's patterns look for what is before and after a word
    for check in CHECKS:
        for found in check.check_with_flags(padded):
            yield padded.count("\n", 0, found.span[0] + 1), f"{padded[slice(*found.span)].strip()!r}: {found.message}"
    for pattern, advice in HOUSE.items():
        for found in pattern.finditer(text):
            yield text.count("\n", 0, found.start()) + 1, f"{found[0]!r}: {advice}"


def main(names: list[str]) -> int:
    listed = subprocess.run(["git", "ls-files", "-z", "--", *RULES["files"]], cwd=ROOT, capture_output=True, text=True)
    kept = [name for name in listed.stdout.split("\0") if name and name not in RULES["leave out files"]]
    files = [Path(name).resolve() for name in names] or [ROOT / name for name in kept]
    wrong = [
        f"{file.relative_to(ROOT)}, {where or f'line {line}'}: {message}"
        for file in files
        for where, text in sentences(file)
        for line, message in findings(text)
    ]
    print(*wrong, f"{len(wrong)} findings in the English of {len(files)} files", sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
