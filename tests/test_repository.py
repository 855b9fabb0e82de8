"""The repository itself: clean notebooks, contents that hold, one list of dependencies, one address, no strays."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
import yaml
from colab import install_line
from conftest import ROOT

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
PROJECT, BRANCH = CONFIG["repository"]["url"], CONFIG["repository"]["branch"]
OWNER, NAME = PROJECT.removeprefix("https://github.com/").split("/")
ARCHIVE = f"{PROJECT}/archive/refs/heads/{BRANCH}.zip"
NOTEBOOKS = CONFIG["launch_buttons"]["notebooks_branch"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def tracked() -> list[str]:
    """Files under version control; none where there is no version control."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    return [name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def notebooks() -> list[str]:
    return [name for name in tracked() if name.endswith(".ipynb")]


def toc_files(node) -> list[str]:
    """Every `file` and `root` of the table of contents, at any depth."""
    if isinstance(node, dict):
        return [v for k, v in node.items() if k in ("file", "root")] + toc_files(list(node.values()))
    return [name for child in node for name in toc_files(child)] if isinstance(node, list) else []


def test_table_of_contents_and_chapters_agree():
    files = toc_files(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
    assert len(files) == len(set(files))
    for name in files:
        assert any((ROOT / f"{name}{ending}").exists() for ending in (".md", ".ipynb")), f"{name} is in _toc.yml only"
    missing = {name.removesuffix(".ipynb") for name in notebooks()} - set(files)
    assert not missing, f"not in _toc.yml: {missing}"


@pytest.mark.parametrize("name", notebooks())
def test_notebook_is_clean(name):
    book = nbformat.read(ROOT / name, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code), "strip it: make format"
    assert set(book.metadata) <= {"kernelspec"}, "strip it: make format"
    ids = [cell.id for cell in book.cells]
    assert len(ids) == len(set(ids))
    titles = [c.source for c in book.cells if c.cell_type == "markdown" and re.match(r"# ", c.source)]
    assert len(titles) == 1 and book.cells[0].source.startswith("# "), "one title, in the first cell"
    assert "google.colab" in code[0].source and f'"{ARCHIVE}"' in code[0].source, "first: the install cell for Colab"
    assert install_line(book)[:2] == ["--no-deps", str(ROOT)], "what Colab has must not be replaced"
    assert "hide-input" in code[0].metadata.get("tags", [])
    for cell in book.cells:
        for address in re.findall(r"https?://[^\s)\"'>`]+", cell.source):
            assert address.startswith(PROJECT), f"a chapter must work without a network: {address}"


@pytest.mark.parametrize("name", [n for n in notebooks() if n.startswith("chapters/")])
def test_a_chapter_takes_its_models_back_to_the_cpu(name):
    """`fit` leaves a model on the GPU if there is one, as on Colab; checks and pictures are made from tensors here."""
    for cell in json.loads((ROOT / name).read_text(encoding="utf-8"))["cells"]:
        code = "".join(cell["source"]) if cell["cell_type"] == "code" else ""
        for trained in re.findall(r"train\.fit\((\w+)", code):
            assert f"{trained}.cpu()" in code, cell["id"]


def code_cells(name: str) -> list[tuple[str, list[ast.stmt], str]]:
    """Id, statements and source of each code cell; a shell's lines are no Python."""
    cells = json.loads((ROOT / name).read_text(encoding="utf-8"))["cells"]
    sources = [(cell["id"], "".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
    return [(id, ast.parse(re.sub(r"(?m)^(\s*)[%!].*", r"\1pass", code)).body, code) for id, code in sources]


@pytest.mark.parametrize("name", notebooks())
def test_what_a_cell_shows_is_its_last_line(name):
    """Jupyter displays the last expression alone: a table above it would be lost without a word."""
    for cell, body, _ in code_cells(name):
        lost = [ast.unparse(node) for node in body[:-1] if isinstance(node, ast.Expr)]
        assert not [line for line in lost if line.startswith("show.") and line != "show.style()"], cell


# What is called for what it does. What it returns, such as the model itself, is nothing to read.
DONE = r"eval|train|cpu|cuda|to|step|backward|zero_grad|\w*seed|load_state_dict|requires_grad|\w+_|set_\w+"
DONE += r"|append|extend|insert|update|setdefault|pop|popitem|remove|discard|add|write\w*|mkdir|unlink|save\w*"
DRAWN = r"(plt|axe?s?|axis|fig|figure)\b"


def shows_by_accident(last: ast.stmt) -> bool:
    call = last.value if isinstance(last, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return False
    return bool(re.fullmatch(DONE, call.func.attr) or re.match(DRAWN, ast.unparse(call.func)))


def test_accidents_are_known():
    by_accident = (
        "net.eval()",
        "atlop.cpu().eval()",
        "found.append(1)",
        "plt.show()",
        "axes[0].plot([1])",
        "ax.legend()",
    )
    assert all(shows_by_accident(ast.parse(line).body[0]) for line in by_accident)
    meant = ("show.table(rows)", "figure", "x.flatten()", "net = net.eval()", "len(found)", "' '.join(words)", "f'{x}'")
    assert not any(shows_by_accident(ast.parse(line).body[0]) for line in meant)


@pytest.mark.parametrize("name", notebooks())
def test_a_cell_shows_what_is_meant_to_be_shown(name):
    """A last line such as `model.eval()` would print the whole model: end it with `;`, or let it not be the last."""
    for cell, body, code in code_cells(name):
        quiet = re.search(r";\s*(#[^\n]*)?$", code)
        assert quiet or not body or not shows_by_accident(body[-1]), f"{cell}: {code.splitlines()[-1]}"


def test_every_dependency_is_listed_once():
    lists = [PYPROJECT["dependencies"], *PYPROJECT["optional-dependencies"].values()]
    lines = {line for entries in lists for line in entries}  # two extras may name the same, with the same floor
    names = [re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in lines]
    assert sorted(names) == sorted(set(names))
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    unpinned = [name for name in names if not re.search(rf"^{re.escape(name)}==", pins, re.MULTILINE)]
    assert not unpinned, f"not in constraints.txt: {unpinned}"


def test_what_only_unix_has_is_imported_late():
    """Windows lacks these modules: at the top of a file they would stop it from being imported at all."""
    for path in sorted((ROOT / "docre_lite").rglob("*.py")):
        named = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.Import)]
        assert not {"fcntl", "resource"} & {alias.name for node in named for alias in node.names}, path


@pytest.mark.parametrize(
    ("file", "line", "seen"),
    [
        ("predict.py", "from .bench import plans", "docre_lite.predict -> docre_lite.bench"),
        ("types.py", "from .formats.text import from_text", "docre_lite.types -> docre_lite.formats.text"),
        ("scale/parts.py", "from ..show import table", "docre_lite.scale.parts -> docre_lite.show"),
        ("train.py", "import pandas", "docre_lite.train -> pandas"),
        ("model.py", "from .train import fit", "docre_lite.model -> docre_lite.train"),
        ("predict.py", "", None),
    ],
)
def test_rooms_keep_to_their_contract(file, line, seen, tmp_path):
    """`make lint` holds it; here, that it notices an import in the wrong direction."""
    own = tmp_path / "docre_lite"
    shutil.copytree(ROOT / "docre_lite", own, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (own / file).write_text((own / file).read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=None))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == (1 if seen else 0), done.stdout + done.stderr
    assert seen is None or seen in done.stdout


def test_the_package_is_as_thin_as_it_says():
    """Ten files on the spine, none over 400 lines, no function over 50, no class over 150, tables of options aside."""
    top = {path.name for path in (ROOT / "docre_lite").glob("*.py")} - {"__init__.py", "__main__.py"}
    assert len(top) <= 10, top
    for path in (ROOT / "docre_lite").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                most = 50 if isinstance(node, ast.FunctionDef) else 150
                assert node.end_lineno - node.lineno + 1 - _options(node) <= most, f"{path.name}: {node.name}"


def _options(node: ast.FunctionDef | ast.ClassDef) -> int:
    """Lines of a node that are a table: a command's options, a paper's settings, recipes and variants."""
    if isinstance(node, ast.FunctionDef):
        annotated = [a for a in node.args.args if a.annotation and "Annotated" in ast.unparse(a.annotation)]
        return sum(a.end_lineno - a.lineno + 1 for a in annotated)
    tables = [n for n in node.body if isinstance(n, ast.Assign) or isinstance(n, ast.ClassDef) and n.name == "Options"]
    return sum(n.end_lineno - n.lineno + 1 for n in tables)


def test_environment_repeats_nothing():
    lines = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert [line for line in lines if isinstance(line, str)] == ["python=3.12", "pip"]
    assert lines[-1] == {"pip": ["--extra-index-url https://download.pytorch.org/whl/cpu", "-e .[book,lab]"]}


def test_no_stray_words():
    """No path of somebody's machine, no pickle, nothing that calls a network host at build time."""
    forbidden = {
        "a path of one machine": re.compile("/" + r"(?:work|tmp|root)/\w|/" + r"home/\w"),
        "pickle": re.compile("import " + r"pickle|pickle" + r"\.loads?\(|allow_" + "pickle=True"),
        "torch.load without weights_only": re.compile(r"torch\.load" + r"\((?![^)]*weights_only=True)"),
    }
    if not tracked():
        pytest.skip("not a git checkout")
    for name in tracked():
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for what, pattern in forbidden.items():
            found = pattern.search(text)
            assert not found, f"{name}: {what}: {found[0]!r}"


def test_data_files_are_json():
    for name in tracked():
        if name.endswith((".json", ".ipynb")):
            json.loads((ROOT / name).read_text(encoding="utf-8"))


def test_version_is_one():
    import docre_lite

    assert docre_lite.__version__ == PYPROJECT["version"] == CITATION["version"]
    assert f"## {PYPROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_address_is_one():
    """_config.yml names the repository; the public pages, the metadata and every link to a file of ours follow."""
    pages = CONFIG["html"]["baseurl"]
    assert pages == f"https://{OWNER}.github.io/{NAME}/"
    assert PYPROJECT["urls"] == {"Documentation": pages, "Repository": PROJECT}
    assert (CITATION["url"], CITATION["repository-code"]) == (pages, PROJECT)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert pages in readme and ARCHIVE in readme and ARCHIVE in (ROOT / "book/use.md").read_text(encoding="utf-8")
    for name in tracked():
        if not name.endswith((".md", ".ipynb", ".yml", ".toml", ".cff")):
            continue
        text = (ROOT / name).read_text(encoding="utf-8")
        for address in re.findall(r"https://github\.com/[\w./-]+/archive/[\w./-]+", text):
            assert address == ARCHIVE, name
        for address in re.findall(r"https://colab\.research\.google\.com/github/[\w./-]+", text):
            start = f"https://colab.research.google.com/github/{OWNER}/{NAME}/blob/{NOTEBOOKS}/"
            assert address.startswith(start) and (ROOT / address.removeprefix(start)).is_file(), name


def test_there_are_workflows():
    assert [file.stem for file in WORKFLOWS] == ["book", "release", "weekly"]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_workflow_calls_what_is_there(file):
    """Nobody sees a broken workflow before it is pushed: what it names must exist, what it may do must be said."""
    text = file.read_text(encoding="utf-8")
    flow = yaml.safe_load(text)
    assert flow["permissions"] == {"contents": "read"} and flow["concurrency"]["group"]
    assert flow[True], "YAML reads `on` as true"
    assert set(re.findall(r"secrets\.(\w+)", text)) <= {"GITHUB_TOKEN"}
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for name, job in flow["jobs"].items():
        assert job["timeout-minutes"] <= 120, f"{name}: a hanging job runs for six hours"
        assert set(job.get("needs", [])) <= set(flow["jobs"])
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), step
            used = step.get("uses", f"a/b@{40 * '0'}")
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", used), f"not pinned to a commit: {step}"
            command = step.get("run", "")
            assert set(re.findall(r"make (\w+)", command)) <= set(targets), command
            assert all((ROOT / script).is_file() for script in re.findall(r"[\w/]+\.py\b", command)), command


def run_step(workflow: str, job: str, name: str, folder: Path, **env: str) -> subprocess.CompletedProcess:
    """What a step of a workflow runs, run here as GitHub does."""
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / f"{workflow}.yml").read_text(encoding="utf-8"))
    [step] = [step for step in flow["jobs"][job]["steps"] if step.get("name") == name]
    command = ["bash", "-e", "-c", step["run"]]
    return subprocess.run(command, cwd=folder, env=os.environ | env, capture_output=True, text=True)


def test_the_notebooks_branch_is_one_commit_however_often_it_is_written(tmp_path):
    """A folder is pushed to in GitHub's place."""
    there, address = tmp_path / "there.git", "https://x-access-token:secret@github.com/some/book"
    subprocess.run(["git", "init", "--quiet", "--bare", there], check=True)
    config = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{there}.insteadOf", "GIT_CONFIG_VALUE_0": address}
    for k in range(2):
        file = tmp_path / str(k) / "chapters" / f"{k}.ipynb"
        file.parent.mkdir(parents=True)
        file.write_text("{}")
        env = config | {"GH_TOKEN": "secret", "GITHUB_REPOSITORY": "some/book", "GITHUB_SHA": "abc"}
        done = run_step("book", "notebooks", "Push the branch", tmp_path / str(k), **env)
        assert done.returncode == 0, done.stderr
        for asked, said in (("log --format=%s", "Notebooks of abc"), ("ls-tree -r --name-only", f"chapters/{k}.ipynb")):
            git = ["git", "-C", there, *asked.split(), NOTEBOOKS]
            assert subprocess.run(git, capture_output=True, text=True, check=True).stdout == f"{said}\n"


def test_a_release_is_named_like_the_version():
    named = {tag: run_step("release", "release", "The tag is the version", ROOT, TAG=tag).returncode
             for tag in (f"v{PYPROJECT['version']}", PYPROJECT["version"], "v99.0")}  # fmt: skip
    assert [code == 0 for code in named.values()] == [True, False, False]


def test_what_workflows_may_write():
    """Reading is enough for all but what publishes."""
    may = {}
    for file in WORKFLOWS:
        jobs = yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"]
        may |= {f"{file.stem}/{name}": job["permissions"] for name, job in jobs.items() if "permissions" in job}
    assert may == {
        "book/notebooks": {"contents": "write"},
        "book/deploy": {"pages": "write", "id-token": "write"},
        "release/release": {"contents": "write"},
        "weekly/report": {"issues": "write"},
    }


def test_public_names_exist():
    import docre_lite

    for name in docre_lite.__all__:
        import_module(f"docre_lite.{docre_lite._MODULE.get(name, 'types')}")
        assert not isinstance(getattr(docre_lite, name), ModuleType), f"{name} is hidden by the module of that name"
    with pytest.raises(AttributeError, match="docre_lite has no 'Documents'"):
        docre_lite.Documents  # noqa: B018
