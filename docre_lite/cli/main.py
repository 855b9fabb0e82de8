"""`docre-lite COMMAND …`: assembles the commands, and turns every fault into one line and an exit code."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import typer

from ..support.prose import printable
from . import annotate, bench, corpus, data, export, extract, page, predict, push, score, train

# The commands import everything heavy themselves, so that `--help` answers at once.
PLAIN = {"rich_markup_mode": None, "add_completion": False, "no_args_is_help": False}
UsageError = typer.BadParameter.__mro__[1]  # click's, which typer imports, or contains since version 0.26
LONGEST = 1600  # characters of a line that reports a fault, which may quote what it found
SEVERAL = ("--input", "--entities", "--tokens")  # options that accept any number of values

app = typer.Typer(help="Document-level relation extraction: five papers, one module.", name="docre-lite", **PLAIN)
for command, example in (
    (corpus.corpus, "corpus --out corpus"),
    (train.train, "train --paper atlop --train corpus/train.json --dev corpus/dev.json --out runs/first"),
    (annotate.annotate, "annotate --input notes.txt --with spacy --model en_core_web_sm --out documents.jsonl"),
    (predict.predict, "predict --run runs/first --data corpus/test.json --out result.json"),
    (extract.extract, "extract --run runs/first --input documents/*.jsonl.gz --out triples --workers 4"),
    (page.page, "page --run atlop --out ask.html"),
    (data.convert, "convert annotations/ --from brat --to documents.json"),
    (export.export, "export --run atlop --out atlop.onnx"),
    (push.push, "push --run runs/first --to user/name --license mit"),
    (score.score, "score --predictions result.json --gold corpus/test.json --train corpus/train.json"),
):
    app.command(epilog=f"example: docre-lite {example}")(command)
for name, help, commands in (
    (
        "data",
        "Fetch public data sets and describe files.",
        ((data.fetch, "fetch redocred --to data/redocred"), (data.info, "info corpus/train.json")),
    ),
    (
        "bench",
        "Run benchmark plans, show their results, measure speed.",
        (
            (bench.run, "run lite --only paper=atlop,seed=0"),
            (bench.table, "table lite --base atlop --out lite.md --out lite.csv"),
            (bench.speed, "speed --encoder sentence-transformers/all-MiniLM-L6-v2 --paper atlop --paper paee"),
        ),
    ),
):
    group = typer.Typer(help=help, **PLAIN)
    for command, example in commands:
        group.command(epilog=f"example: docre-lite {name} {example}")(command)
    app.add_typer(group, name=name)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command. Exit codes: 0 done, 2 bad input or arguments, 130 interrupted."""
    given = one_value_each(sys.argv[1:] if arguments is None else arguments)
    if odd := [word for word in given if not _is_text(word)]:
        return _fault(f"{odd[0]!a}: this name is not UTF-8, and could not be written down; rename the file")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _told
            return typer.main.get_command(app).main(given, "docre-lite", standalone_mode=False) or 0
    except BrokenPipeError:  # the reader of our output, such as `head`, has stopped reading
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UsageError as error:
        where = error.ctx.command_path if error.ctx else "docre-lite"
        return _fault(f"{error.format_message().rstrip('.')}; see `{where} --help`")
    except (ValueError, OSError, FloatingPointError) as error:  # the last one: a loss that is not finite
        named = isinstance(error, OSError) and error.filename is not None
        return _fault(f"{error.filename}: {error.strerror}" if named else str(error))
    except (MemoryError, RuntimeError) as error:
        from ..support.machine import out_of_memory

        if isinstance(error, RecursionError):
            return _fault("an input is nested too deeply; check the files that the command names")
        if not out_of_memory(error):
            raise
        said = " ".join(str(error).split())[:120]
        return _fault(f"needs more memory than there is ({said or 'MemoryError'}); give a smaller file, or free some")
    except (KeyboardInterrupt, typer.Abort):
        print("docre-lite: interrupted", file=sys.stderr)
        return 130


def one_value_each(given: list[str]) -> list[str]:
    """Turns `--input a b` into `--input a --input b`: shells expand patterns, but typer takes one value per option."""
    found: list[str] = []
    option = None
    for word in given:
        if word.startswith("-"):
            option = word if word in SEVERAL else None
        elif option and found[-1] != option:
            found.append(option)
        found.append(word)
    return found


def _is_text(word: str) -> bool:
    """Python holds bytes of a file name that are not UTF-8 as halves of surrogates."""
    return not any("\ud800" <= c <= "\udfff" for c in word)


def _fault(said: str) -> int:
    line = " ".join(said.split())
    if len(line) > LONGEST:  # the end tells the way out
        line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
    print(f"docre-lite: {printable(line)}", file=sys.stderr)
    return 2


def _told(message: Warning | str, *_: Any) -> None:
    """Prints a warning as a line of its own, without the place in the code that raised it."""
    print(f"docre-lite: {printable(' '.join(str(message).split()))}", file=sys.stderr)
