"""The installed package, used as a newcomer would: `make dist` runs this with the Python of a fresh environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

import docre_lite
from docre_lite import DocRE, generate, read, running_example
from docre_lite.show import results
from docre_lite.widgets import ContextExplorer

CHECKOUT = Path(__file__).resolve().parent.parent
COMMAND = Path(sys.executable).parent / "docre-lite"


def call(*words: str) -> str:
    done = subprocess.run([COMMAND, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def main() -> None:
    home = Path(docre_lite.__file__).parent
    assert home.parent != CHECKOUT and home.parent.name == "site-packages", f"imported from {home}"

    # The wheel must also contain what is not Python: the embedded corpus, stored results, scripts of the widgets.
    assert len(generate("train", 5)) == 5
    example = running_example()
    assert example.sentences and example.triples
    assert results("frozen_atlop")[0]["paper"] == "atlop"

    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        call("corpus", "--out", "corpus", "--train", "8", "--dev", "4", "--test", "4")
        assert len(read("corpus/train.json")) == 8
        small = [f"--set={word}" for word in "layers=1 width=16 heads=2 batch_size=8".split()]
        data = ["--train", "corpus/train.json", "--dev", "corpus/dev.json"]
        call("train", "--paper", "atlop", "--encoder", "tiny", *data, "--epochs", "1", *small, "--out", "run")
        call("predict", "--run", "run", "--data", "corpus/test.json", "--out", "result.json")
        assert isinstance(json.loads(Path("result.json").read_text(encoding="utf-8")), list)
        call("score", "--predictions", "result.json", "--gold", "corpus/test.json", "--train", "corpus/train.json")
        html = ContextExplorer(DocRE.load("run/model"), example).html()
    assert ".dw" in html and 'type="module"' in html and len(html) > 10_000
    print(f"docre_lite {docre_lite.__version__} works from {home}")


if __name__ == "__main__":
    main()
