"""`docre-lite corpus | train | predict | extract | score | data | bench`, also as `python -m docre_lite`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import warnings
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

# Everything heavy is imported inside the commands: `--help` answers at once.

PLAN = ("paper", "encoder", "recipe", "settings", "seed", "train", "dev", "relations", "limit")  # of run.json


def main(argv: list[str] | None = None) -> int:
    """Runs one command. Exit codes: 0 done, 2 bad input or arguments, 130 interrupted."""
    args = parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _told
            return args.run(args) or 0
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, FloatingPointError) as error:  # the last one: a loss that is not finite
        named = isinstance(error, OSError) and error.filename is not None
        said = f"{error.filename}: {error.strerror}" if named else str(error)
        print(f"docre-lite: {' '.join(said.split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("docre-lite: interrupted", file=sys.stderr)
        return 130


def _told(message: Warning | str, *_: Any) -> None:
    """A warning as a line of its own, without the place in the code that gave it."""
    print(f"docre-lite: {message}", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="docre-lite", description="Document-level relation extraction: five papers, one spine."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    c = _command(
        commands, "corpus", corpus, "write the embedded corpus as DocRED JSON", "docre-lite corpus --out corpus"
    )
    c.add_argument("--out", type=Path, required=True, help="folder for train, dev, test and counterfactual documents")
    for split, count in (("train", 600), ("dev", 150), ("test", 150)):
        c.add_argument(f"--{split}", type=_count, default=count, help=f"{split} documents")
    c.add_argument("--seed", type=_seed, default=0, help="the same seed gives the same documents everywhere")

    c = _command(
        commands,
        "train",
        train,
        "train a paper's model and score it after every epoch",
        "docre-lite train --paper atlop --train corpus/train.json --dev corpus/dev.json --out runs/first",
    )
    # No default stands here, so that --resume can tell what was given.
    c.add_argument("--paper", help="which paper (default: atlop)")
    c.add_argument(
        "--train",
        type=Path,
        metavar="FILE",
        help="training documents with labels: DocRED JSON (.gz too), parquet or PubTator",
    )
    c.add_argument(
        "--dev",
        type=Path,
        metavar="FILE",
        help="development documents, scored after every epoch; none = the last epoch is kept",
    )
    c.add_argument(
        "--encoder",
        metavar="tiny|NAME|PATH",
        help="'tiny' (from scratch, the default), a hub name, or a folder with a BERT- or RoBERTa-like model",
    )
    c.add_argument(
        "--recipe",
        help="published settings to start from, see --help-paper (default: tiny for the tiny encoder, else docred)",
    )
    c.add_argument(
        "--epochs", type=_count, metavar="E", help="passes over the training documents (default: the recipe's)"
    )
    c.add_argument("--seed", type=_seed, metavar="S", help="seed of weights, document order and dropout (default: 66)")
    c.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for metrics.json, model/ (best epoch) and last/ (to resume)"
    )
    c.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any setting of --help-paper, repeatable; variant=NAME picks an ablation",
    )
    c.add_argument(
        "--relations",
        type=Path,
        metavar="FILE",
        help="JSON map of relations, NA = 0 (default: those of the training documents)",
    )
    c.add_argument("--limit", type=_count, metavar="N", help="use the first N training documents only")
    c.add_argument(
        "--threads", type=_count, metavar="N", help="CPU threads (default: torch's own choice, or OMP_NUM_THREADS)"
    )
    c.add_argument(
        "--resume", type=Path, metavar="DIR", help="continue the run in DIR; all other arguments are read from it"
    )
    c.add_argument("--help-paper", metavar="PAPER", help="list a paper's recipes, variants and settings, and stop")

    c = _command(
        commands,
        "predict",
        predict,
        "find the triples of documents with a trained model",
        "docre-lite predict --run runs/first --data corpus/test.json --out result.json",
    )
    c.add_argument("--run", dest="folder", type=Path, required=True, metavar="DIR", help="folder of `train --out`")
    c.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FILE",
        help="documents; their labels, if any, are checked, but play no part",
    )
    c.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="JSON in the DocRED submission format, with scores; h_idx and t_idx are numbers of entities, from 0: the "
        "file's own if it is of DocRED's format, else by first mention",
    )
    c.add_argument("--zip", action="store_true", help="also write result.zip beside it, as CodaLab wants it")
    c.add_argument(
        "--evidence",
        type=_share,
        default=0.2,
        metavar="SHARE",
        help="share of a pair's attention that makes a sentence evidence",
    )
    c.add_argument("--batch-size", type=_count, default=8, help="documents at a time")
    c.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="of the calculation; bf16 is faster where the hardware multiplies it",
    )
    c.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the paper that says how to predict, such as rounds=1 (DocRE-II); repeatable",
    )
    c.add_argument("--seed", type=_seed, default=0, help="draws the pairs that test_mask_rate hides (DRE-MIR)")

    c = _command(
        commands,
        "extract",
        extract,
        "find the triples of any number of documents: streamed to parquet, by several processes, to be continued",
        "docre-lite extract --run runs/first --input documents/*.jsonl.gz --out triples --workers 4",
    )
    c.add_argument("--run", dest="folder", type=Path, required=True, metavar="DIR", help="folder of `train --out`")
    c.add_argument(
        "--input", nargs="+", required=True, metavar="GLOB", help="JSON lines (.gz too) or parquet; ** = any folders"
    )
    c.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write to; a run that was ended goes on there"
    )
    c.add_argument("--workers", type=_count, metavar="N", default=1, help="processes, with a model each")
    c.add_argument(
        "--engine", choices=["local", "ray"], default="local", help="processes of this machine, or Ray's of a cluster"
    )
    c.add_argument(
        "--threads", type=_count, metavar="N", help="CPU threads of a process (default: torch's choice, shared out)"
    )
    c.add_argument("--part-size", type=_count, metavar="N", default=256, help="documents of one file of triples")
    c.add_argument("--batch-size", type=_count, metavar="N", default=8, help="documents at a time")
    c.add_argument(
        "--budget",
        type=_count,
        metavar="N",
        default=1 << 14,
        help="tokens, and pairs of entities, at a time; a document with more is set aside",
    )
    c.add_argument("--evidence", type=_share, default=0.2, metavar="SHARE", help="as in predict")
    c.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="as in predict")
    c.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in predict")
    c.add_argument("--seed", type=_seed, default=0, help="as in predict, for each part")

    c = _command(
        commands,
        "score",
        score,
        "score predictions with every metric of the field",
        "docre-lite score --predictions result.json --gold corpus/test.json --train corpus/train.json",
    )
    c.add_argument("--predictions", type=Path, required=True, metavar="FILE", help="result.json or result.zip")
    c.add_argument("--gold", type=Path, required=True, metavar="FILE", help="documents with labels")
    c.add_argument("--train", type=Path, metavar="FILE", help="training documents, whose facts Ign F1 leaves out")
    c.add_argument("--json", action="store_true", help="print JSON instead of a table")

    data = commands.add_parser("data", help="fetch public data sets, describe files")
    kinds = data.add_subparsers(required=True, metavar="COMMAND")
    c = _command(
        kinds, "fetch", data_fetch, "download a public data set", "docre-lite data fetch redocred --to data/redocred"
    )
    c.add_argument("name", choices=["docred", "redocred", "cdr", "dwie", "gda"], help="which data set")
    c.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder to write to; an interrupted download goes on there",
    )
    c = _command(
        kinds,
        "info",
        data_info,
        "counts of a file of documents, and warnings",
        "docre-lite data info corpus/train.json",
    )
    c.add_argument("file", type=Path, metavar="FILE", help="documents in any format that is read")
    c.add_argument("--train", type=Path, metavar="FILE", help="also look for documents that stand in this file too")
    c.add_argument("--json", action="store_true", help="print JSON instead of a table")

    bench = commands.add_parser("bench", help="run a plan of trainings, table what is stored")
    kinds = bench.add_subparsers(required=True, metavar="COMMAND")
    c = _command(
        kinds,
        "run",
        bench_run,
        "train and score what a plan names and nobody has stored yet",
        "docre-lite bench run lite --only paper=atlop,seed=0",
    )
    _bench_arguments(c)
    c.add_argument("--only", metavar="KEY=VALUE,..", help="runs of some paper, variant, data, seed, ..; none = all")
    c.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="where a file or an encoder of the plan lies, repeatable",
    )
    c.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="folder for the runs' checkpoints")
    c.add_argument("--dry-run", action="store_true", help="list the runs and how far they are, and stop")
    c = _command(
        kinds,
        "table",
        bench_table,
        "mean and spread over seeds, and differences with intervals over documents",
        "docre-lite bench table lite --base atlop --out lite.md --out lite.csv",
    )
    _bench_arguments(c)
    c.add_argument("--base", metavar="PAPER[/VARIANT]", help="what to compare with; own = each paper's full model")
    c.add_argument("--metric", default="f1", metavar="SCORE", help="score to compare, such as ign_f1 or inter_f1")
    c.add_argument("--split", metavar="SPLIT", help="documents that are scored: test (if any), dev, counterfactual")
    c.add_argument("--draws", type=_count, default=10_000, metavar="N", help="draws of documents for an interval")
    c.add_argument("--out", type=Path, action="append", default=[], metavar="FILE", help=".md or .csv, repeatable")
    c = _command(
        kinds,
        "speed",
        bench_speed,
        "measure time and memory against the bare encoder",
        "docre-lite bench speed --encoder sentence-transformers/all-MiniLM-L6-v2 --paper atlop --paper paee",
    )
    c.add_argument("--encoder", required=True, metavar="tiny|NAME|PATH", help="as in `docre-lite train`")
    c.add_argument("--data", metavar="FILE", help="documents to time on; none = made ones")
    c.add_argument("--paper", action="append", metavar="PAPER", help="which paper, repeatable; none = all five")
    c.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the calculation")
    c.add_argument("--device", choices=("cpu", "cuda"), help="none = the GPU if there is one")
    c.add_argument("--batch-size", type=_count, default=4, metavar="N", help="documents of a batch")
    c.add_argument("--repeats", type=_count, default=5, metavar="N", help="repeats, the median of which counts")
    for name, what in (("entities", "on a long document"), ("tokens", "with 20 entities")):
        c.add_argument(f"--{name}", type=_count, nargs="*", metavar="N", help=f"{name} to show growth over, {what}")
    c.add_argument("--threads", type=_count, default=1, metavar="N", help="CPU threads")
    c.add_argument("--results", type=Path, metavar="DIR", help="folder of stored rows, as in `bench run`")
    return top


def _bench_arguments(c) -> None:
    c.add_argument("plan", metavar="PLAN", help="a plan's name (lite, redocred-mini, ..) or JSON file")
    c.add_argument(
        "--results", type=Path, metavar="DIR", help="folder of stored rows; none = benchmarks/results of a checkout"
    )


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default where there is one."""

    def _get_help_string(self, action):
        nothing = action.default is None or action.default is False or action.default == []
        return action.help if nothing else super()._get_help_string(action)


def _command(commands, name: str, run, help: str, example: str):
    c = commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=f"example: {example}",
        formatter_class=_Help,
    )
    c.set_defaults(run=run)
    return c


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1, not {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"a whole number from 0 to {2**32 - 1}, not {text!r}")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"a share from 0 to 1, not {text!r}")
    return value


def corpus(args) -> None:
    from .corpus import write

    paths = write(args.out, train=args.train, dev=args.dev, test=args.test, seed=args.seed)
    _show({name: str(path) for name, path in paths.items()})


def train(args) -> int:
    if args.help_paper:
        from .model import paper

        print(describe_paper(paper(args.help_paper)))
        return 0
    from .memory import keep_freed

    keep_freed()
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    if args.resume:
        begun = vars(parser().parse_args(["train"])) | {"resume": args.resume, "threads": args.threads}
        if given := [name for name, value in vars(args).items() if value != begun[name]]:
            raise ValueError(
                f"--resume continues a run with the arguments it was begun with; leave out --{' and --'.join(given)}"
            )
        return _train(_read_plan(args.resume), args.resume, resume=True)
    missing = [name for name in ("train", "out") if getattr(args, name) is None]
    if missing:
        raise ValueError(f"train needs --{' and --'.join(missing)} (or --resume DIR)")
    _is_new(args.out)
    return _train(_plan(args), args.out, resume=False)


def _is_new(out: Path) -> None:
    if (out / "run.json").exists():
        raise ValueError(f"{out} holds a run already: continue it with --resume {out}, or choose another --out")


def _plan(args) -> dict[str, Any]:
    """All arguments of a run, as they are written to run.json."""
    given = _settings(args.set) | ({"epochs": args.epochs} if args.epochs else {})
    encoder = args.encoder or "tiny"
    return {
        "paper": args.paper or "atlop",
        "encoder": encoder,
        "recipe": args.recipe or ("tiny" if encoder == "tiny" else "docred"),
        "settings": given,
        "seed": 66 if args.seed is None else args.seed,
        "train": str(args.train.resolve()),
        "dev": str(args.dev.resolve()) if args.dev else None,
        "relations": str(args.relations.resolve()) if args.relations else None,
        "limit": args.limit,
    }


def _settings(items: list[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"--set takes KEY=VALUE, not {item!r}")
        given[key] = value
    return given


def _read_plan(folder: Path) -> dict[str, Any]:
    from .store import ANEW, read_json

    path = folder / "run.json"
    if not path.is_file():
        raise ValueError(f"{folder}: no run.json here; --resume takes the --out folder of an earlier run")
    plan = read_json(path)
    if missing := [key for key in PLAN if key not in plan]:
        raise ValueError(f"{path}: lacks {', '.join(missing)}; it is not what `docre-lite train` wrote: {ANEW}")
    return plan


def _train(plan: dict[str, Any], out: Path, resume: bool) -> int:
    from accelerate.utils import set_seed
    from tqdm.auto import tqdm

    from .machine import processes
    from .model import DocRE, build
    from .readers import read, read_relations
    from .store import alone, write_json, writing
    from .train import configure, fit, last_checkpoint

    _check_settings(plan)
    config, rest = configure(plan["paper"], plan["recipe"], **{"seed": plan["seed"], **plan["settings"]})
    relations = read_relations(plan["relations"]) if plan["relations"] else None
    documents = read(plan["train"], relations=relations)[: plan["limit"]]
    dev = read(plan["dev"], relations=relations) if plan["dev"] else []
    if not any(document.triples for document in documents):
        raise ValueError(f"{plan['train']}: no document has a label, so there is nothing to learn; give them labels")
    checkpoint = last_checkpoint(out) if resume else None
    set_seed(config.seed)
    if checkpoint:
        model = DocRE.load(checkpoint)
        _check_model(model, plan, rest, relations, checkpoint)
    else:
        model = build(plan["paper"], documents, plan["encoder"], relations, **rest)
    if not relations:
        _note_unknown(model.relations, dev)
    if model.classifier.objective.tunable and not dev:
        raise ValueError(f"this variant of {plan['paper']} tunes its threshold on development documents; give --dev")
    together = processes()
    together.wait_for_everyone()  # none may find the run.json that another one writes
    if together.is_main_process:
        way_out = "mend that and resume again" if resume else "choose another --out"
        held = alone(out, way_out)  # noqa: F841  until this is over
        if not resume:
            _is_new(out)
        with writing(out, way_out):
            write_json(out / "run.json", plan)

    interrupted = []
    previous = {
        s: signal.signal(s, lambda number, _: _interrupt(interrupted, number)) for s in (signal.SIGINT, signal.SIGTERM)
    }
    steps = fit(model, documents, dev, config, out, resume)
    try:
        quiet = not together.is_main_process
        # into a file, a line a minute is enough
        often = sys.stderr.isatty() or "TQDM_MININTERVAL" in os.environ
        pace = {} if often else {"mininterval": 60.0, "maxinterval": 60.0}
        # no bar before the first step
        with tqdm(unit="step", desc=plan["paper"], delay=1e-6, disable=quiet, **pace) as bar:
            for step in steps:
                bar.total = step.steps
                bar.update(step.step - bar.n)
                bar.set_postfix(epoch=step.epoch, loss=f"{step.loss:.3f}", refresh=False)
                if step.scores and together.is_main_process:
                    s = step.scores
                    bar.write(
                        f"epoch {step.epoch}: dev F1 {100 * s.f1:.2f}, Ign F1 {100 * (s.ign_f1 or 0):.2f}, "
                        f"P {100 * s.precision:.2f}, R {100 * s.recall:.2f}",
                        file=sys.stderr,
                    )
                if step.step < step.steps and _any(interrupted):
                    steps.close()  # writes the checkpoint
                    bar.close()  # the way to go on is the last that is said
                    together.print(
                        f"docre-lite: stopped after step {step.step}; continue with: docre-lite train --resume {out}",
                        file=sys.stderr,
                    )
                    return 130
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if together.is_main_process:
        _show({"out": str(out), "metrics": str(out / "metrics.json"), "model": str(out / "model")})
    return 0


def _any(interrupted: list) -> bool:
    """Was any process of this training asked to stop? All leave together: one alone would wait for ever."""
    import torch
    from accelerate.utils import reduce

    from .machine import processes

    if processes().num_processes == 1:
        return bool(interrupted)
    asked = torch.tensor(float(len(interrupted)), device=processes().device)
    return bool(reduce(asked))


def _check_settings(plan: dict[str, Any]) -> None:
    from .encode import Reading
    from .encoder import TinyConfig
    from .model import paper
    from .settings import fields
    from .train import TrainConfig

    known = {"variant", *fields(paper(plan["paper"]).Options, Reading, TinyConfig, TrainConfig)}
    if unknown := sorted(set(plan["settings"]) - known):
        raise ValueError(f"{plan['paper']} has no setting {unknown[0]!r}; have {', '.join(sorted(known))}")


def _check_model(model, plan: dict[str, Any], settings: dict[str, Any], relations, folder: Path) -> None:
    """Is the checkpoint of the run that the plan describes?"""
    from dataclasses import asdict

    from .encode import Reading
    from .encoder import TinyConfig
    from .model import paper
    from .settings import update

    spec, tiny = model.spec(), plan["encoder"] == "tiny"
    meant = {"paper": plan["paper"], "encoder": "tiny" if tiny else "pretrained"}
    meant |= {"relations": list(relations.names)} if relations else {}
    other = [key for key, value in meant.items() if spec[key] != value]
    if not other:
        held = [model.classifier.options, model.tokenizer.reading, *([model.encoder.config] if tiny else [])]
        for one, default in zip(held, (paper(plan["paper"]).Options(), Reading(), TinyConfig()), strict=False):
            asked = asdict(update(default, settings))
            other += [key for key, value in asdict(one).items() if asked[key] != value]
    if other:
        raise ValueError(
            f"{folder}: a model with other {', '.join(other)} than run.json beside it asks for; put together again "
            "what belongs together, or start a new --out"
        )


def _note_unknown(relations, dev) -> None:
    unknown = [t.relation for d in dev for t in d.triples if t.relation not in relations]
    if unknown:
        names = ", ".join(sorted(set(unknown)))
        print(
            f"docre-lite: {len(unknown)} dev triples have relations that no training document has ({names}); "
            "they are counted as missed",
            file=sys.stderr,
        )


def _interrupt(interrupted: list, number: int) -> None:
    if interrupted:  # the second time means now
        raise KeyboardInterrupt
    interrupted.append(number)


def predict(args) -> None:
    from accelerate.utils import set_seed

    from .machine import arithmetic, processes, warn_of_emulation
    from .model import DocRE
    from .predict import predict as find
    from .readers import read
    from .store import writing
    from .submission import write_submission

    if args.out.is_dir():
        raise ValueError(f"{args.out} is a folder; --out takes a file, such as {args.out / 'result.json'}")
    if args.out.exists() and args.out.samefile(args.data):
        raise ValueError(f"{args.out}: holds the documents, which --out would overwrite; choose another file")
    documents = read(args.data)
    model = DocRE.load(_model(args.folder), **_settings(args.set)).to(processes().device)
    set_seed(args.seed)
    warn_of_emulation(args.precision, model.device)
    with arithmetic(args.precision, model.device):
        triples = find(model, documents, args.batch_size, progress=True, evidence=args.evidence)
    with writing(args.out, "mend that, or choose another --out"):
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_submission(triples, args.out, documents, zip=args.zip)
    _show({"documents": len(documents), "triples": len(triples), "out": str(args.out)})


def _model(folder: Path) -> Path:
    """The model in the folder of a run; a model's own folder will do."""
    from .store import whole

    found = whole(folder / "model")
    return found if found.is_dir() else folder


def extract(args) -> None:
    from .extract import REJECTED
    from .extract import extract as stream

    totals = stream(
        _model(args.folder),
        args.input,
        args.out,
        workers=args.workers,
        engine=args.engine,
        threads=args.threads,
        part_size=args.part_size,
        batch_size=args.batch_size,
        budget=args.budget,
        evidence=args.evidence,
        seed=args.seed,
        precision=args.precision,
        progress=True,
        options=_settings(args.set),
    )
    if totals["rejected"]:
        print(f"docre-lite: {totals['rejected']} documents set aside, see {args.out / REJECTED}", file=sys.stderr)
    _show({**totals, "out": str(args.out)})


def score(args) -> None:
    from .evaluate import score as compare
    from .evaluate import seen_facts
    from .readers import read
    from .submission import read_predictions

    gold = read(args.gold)
    seen = seen_facts(read(args.train)) if args.train else None
    scores = compare(read_predictions(args.predictions, gold), gold, seen)
    _show(scores.to_dict()) if args.json else print(_table(scores.to_dict()))


def data_fetch(args) -> None:
    from .hub import fetch

    _show({str(k): str(v) for k, v in fetch(args.name, args.to).items()})


def data_info(args) -> None:
    from .readers import describe, read

    found = describe(read(args.file), read(args.train) if args.train else None)
    _show(found) if args.json else print(_table(found))


def bench_run(args) -> int:
    from . import bench

    plan, results = bench.load(args.plan), args.results or bench.RESULTS
    runs, paths = bench.only(plan.runs, args.only or ""), bench.places(plan, args.data)
    if args.dry_run:
        states = [(bench.state(plan, run, args.out / plan.name, results), run.name) for run in runs]
        print("\n".join(f"{name}: {state}" for state, name in states))
        print(f"{sum(state == 'done' for state, _ in states)} of {len(runs)} runs of {plan.name} are done")
        return 0
    return bench.carry_out(plan, runs, paths, args.out, results, say=lambda line: print(line, flush=True))


def bench_table(args) -> None:
    from . import bench

    for path in args.out:
        if path.suffix not in (".md", ".csv"):
            raise ValueError(f"{path}: a table is written as .md or .csv")
    records = bench.compare(
        bench.load(args.plan), args.results or bench.RESULTS, args.base, args.metric, args.split, args.draws
    )
    text = bench.markdown(records, args.metric)
    for path in args.out:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if path.suffix == ".md" else bench.as_csv(records), encoding="utf-8")
    print(text, end="")


def bench_speed(args) -> None:
    import torch

    from . import bench, speed
    from .model import paper

    torch.set_num_threads(args.threads)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: there is no GPU here; leave it out, or take cpu")
    setting = speed.Setting(args.encoder, args.data, device, args.precision, args.batch_size, repeats=args.repeats)
    entities, tokens = (
        default if given is None else given
        for given, default in ((args.entities, speed.ENTITIES), (args.tokens, speed.TOKENS))
    )
    for size in speed.sizes(entities, tokens):  # what cannot be measured is told before anything is
        speed.document(*size)
    names, rows = args.paper or speed.PAPERS, []
    for name in names:
        paper(name)
    for name in names:
        row = speed.measure(name, setting, entities, tokens, say=lambda line: print(line, file=sys.stderr, flush=True))
        bench.keep((args.results or bench.RESULTS) / "speed.json", row, speed.same)
        rows.append(row)
    print(speed.markdown(rows), end="")


def _show(values: Any) -> None:
    print(json.dumps(values, indent=1, ensure_ascii=False))


def _table(values: dict[str, Any], indent: str = "") -> str:
    """Nested results as aligned lines, with the numbers that the JSON has."""
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}", _table(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{indent}{key}")
            lines += [indent + "  " + "  ".join(f"{k} {_figure(v)}" for k, v in row.items()) for row in value]
        else:
            lines.append(f"{indent}{key:<24} {_figure(value)}")
    return "\n".join(lines)


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def describe_paper(kind) -> str:
    """A paper's recipes, variants and settings, as `--help-paper` prints them."""
    from .encode import Reading
    from .encoder import TinyConfig
    from .settings import kind_of
    from .train import TrainConfig

    lines = [kind.title, "", "recipes (--recipe NAME):"]
    lines += [f"  {name:<22} " + ", ".join(f"{k}={v}" for k, v in r.items()) for name, r in kind.recipes.items()]
    lines += ["", "variants (--set variant=NAME), with the paper's DocRED dev scores (Ign F1 / F1):"]
    for name, v in kind.variants.items():
        printed = f" [{'-' if v.ign_f1 is None else f'{v.ign_f1:.2f}'} / {v.f1:.2f}]" if v.f1 else ""
        lines.append(f"  {name:<22} {v.help}{printed}")
        if v.settings:
            lines.append(f"  {'':<22}   = " + ", ".join(f"{k}={value}" for k, value in v.settings.items()))
    for title, record in (
        (f"{kind.name}", kind.Options),
        ("reading and pooling, shared by all papers", Reading),
        ("training", TrainConfig),
        ("the tiny encoder", TinyConfig),
    ):
        lines += ["", f"settings of {title} (--set KEY=VALUE):"]
        for f in dataclass_fields(record):
            lines.append(f"  {f.name:<18} {f.metadata['help']}")
            lines.append(f"  {'':<18}   {kind_of(record, f.name)}, default {f.default}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
