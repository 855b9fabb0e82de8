"""The checker of English finds what it is there to find, and lets code, mathematics and names alone."""

from __future__ import annotations

import json
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "book"))
import prose  # noqa: E402


@pytest.mark.parametrize(
    "text",
    [
        "The table says what a tie is.",
        "It hangs on the encoder.",
        "We keep one matrix a relation.",
        "The numbers stand in the table.",
        "The masks are spared.",
        "A stopped run goes on where it was, and nothing is lost any more.",
        "Evidence are the sentences.",
        "This is the the end.",
        "A very good result.",  # proselint's own
    ],
)
def test_a_phrase_of_the_list_is_found_in_every_kind_of_file(tmp_path, text, capsys, monkeypatch):
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    markdown = {"cell_type": "markdown", "source": [text], "metadata": {}}
    code = {"cell_type": "code", "source": [f'%pip install x\nshow.say(f"{{1}} {text}")'], "metadata": {}}
    made = {
        "page.md": f"# Title\n\n{text}\n",
        "note.md": f":::{{note}}\n{text}\n:::\n",
        "code.py": f'def f():\n    """{text}"""\n',
        "remark.py": f"x = 1  # {text}\n",
        "message.py": f'raise ValueError(f"{{1}} {text}")\n',
        "widget.js": f'root.append("{text}");\n',
        "text.ipynb": json.dumps({"cells": [markdown]}),
        "string.ipynb": json.dumps({"cells": [code]}),
    }
    for name, content in made.items():
        file = tmp_path / name
        file.write_text(content)
        assert prose.main([str(file)]) == 1, name
        assert capsys.readouterr().out.startswith(name)


@pytest.mark.parametrize(
    "text",
    [
        "Run `train told spared` now, as {term}`what it says <told>` shows.",
        "$$ told $$ (eq-told)\n\nSymbols stand for numbers, and $told$ is one.",
        "```python\nspared = told\n```\n\n:::{note}\nGood.\n:::",
        "The [page](https://told.example/spared) explains the threshold.",
        "It has one slider per class, and a training run takes minutes, no more. It has not ended.",
    ],
)
def test_markup_code_and_good_english_pass(tmp_path, text, capsys, monkeypatch):
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    for name, content in (("page.md", text), ("code.py", f'"""Title.\n\n    spared = told\n\n{text}\n"""\n')):
        (tmp_path / name).write_text(content)
        assert prose.main([str(tmp_path / name)]) == 0, capsys.readouterr().out
