"""The full-run sections of chapters, their cells executed in this process as a notebook executes them.

    python full_run.py FOLDER SIGNAL CHAPTER ...

In the middle of each training the process gets the signal: "SIGKILL" ends it, and "SIGINT", as the button of a notebook
sends it, asks for an end; then the cells are run again. What they said and showed goes to FOLDER/said.json.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from docre_lite.bench import training
from docre_lite.formats import hub

CHAPTERS = Path(__file__).resolve().parent.parent / "chapters"
STEP = 7


def cells(chapter: str) -> list[str]:
    """The set-up cell, switched on, and the code between the section's heading and the next text."""
    book = nbformat.read(CHAPTERS / f"{chapter}.ipynb", as_version=4).cells
    [setup] = [c.source for c in book if c.cell_type == "code" and "FULL_RUN = False" in c.source]
    [begin] = [k for k, c in enumerate(book) if c.cell_type == "markdown" and "## The full run" in c.source]
    end = next(k for k in range(begin + 1, len(book)) if book[k].cell_type == "markdown")
    return [setup.replace("FULL_RUN = False", "FULL_RUN = True"), *(c.source for c in book[begin + 1 : end])]


def disturbed(number: signal.Signals):
    """`fit`, with a signal to this process after some steps."""
    fit = training.fit

    def signalled(*given, **more):
        steps = fit(*given, **more)
        try:
            for step in steps:
                if step.step == STEP:  # which is behind a training that goes on
                    os.kill(os.getpid(), number)
                yield step
        finally:
            steps.close()

    return signalled


def main(folder: Path, number: signal.Signals, chapters: list[str]) -> None:
    docred = hub.SOURCES["docred"]  # as it is pinned, but with as many documents as are served here
    served = json.loads((folder / "counts.json").read_text())
    hub.SOURCES["docred"] = replace(docred, counts={name: (served[name], None) for name in docred.counts})
    training.fit = disturbed(number)
    os.chdir(folder)
    shell, said = InteractiveShell.instance(), []
    shell.run_line_magic("colors", "nocolor")
    for chapter in chapters:
        shell.reset(new_session=False)
        for turn in (1, 2):
            for code in cells(chapter):
                with capture_output(display=False) as out:
                    result = shell.run_cell(code)
                shown = re.sub(r"<[^>]+>", " ", str(getattr(result.result, "data", "")))
                cell = {"chapter": chapter, "turn": turn, "code": code, "well": result.success}
                said.append(cell | {"out": out.stdout + out.stderr, "shown": " ".join(shown.split())})
    (folder / "said.json").write_text(json.dumps(said, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), signal.Signals[sys.argv[2]], sys.argv[3:])
