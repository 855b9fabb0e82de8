"""Execute every chapter as Colab would, with the packages that are there and the package from this checkout.

Not a test of pytest: `python tests/colab.py [chapter ...]` is for Google's runtime image, which has what Colab has.
The install cell names an archive of the repository; its options and further packages are used, its address is not.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "_build" / "colab"


def install_cell(notebook):
    return next(cell for cell in notebook.cells if cell.cell_type == "code")


def install_line(notebook) -> list[str]:
    """What the install cell says behind `%pip install`, with the checkout in place of the archive."""
    words = re.search(r"%pip install (.+)", install_cell(notebook).source)[1].split()
    return [str(ROOT) if "://" in word else word for word in words]


def main(names: list[str]) -> int:
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    names = names or [f"{n}.ipynb" for n in re.findall(r"file: (\S+)", contents) if (ROOT / f"{n}.ipynb").exists()]
    chapters = {name: nbformat.read(ROOT / name, as_version=4) for name in names}
    installs = {tuple(install_line(chapter)) for chapter in chapters.values()}
    assert len(installs) == 1, f"the chapters' install cells differ: {installs}"
    subprocess.run([sys.executable, "-m", "pip", "install", *installs.pop()], check=True)

    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    timeout = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["execute"]["timeout"]
    OUT.mkdir(parents=True, exist_ok=True)
    failed = []
    for name, chapter in chapters.items():
        install_cell(chapter).source = "import sys"  # done above; in Colab it would fetch the archive
        try:  # in an empty folder: the checkout must not be what is imported
            NotebookClient(chapter, timeout=timeout, resources={"metadata": {"path": str(OUT)}}).execute()
            print(f"{name}: executed", flush=True)
        except (CellExecutionError, TimeoutError) as error:
            failed.append(name)
            print(f"{name}: FAILED\n{error}", flush=True)
        nbformat.write(chapter, OUT / Path(name).name)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
