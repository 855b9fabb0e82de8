"""The models that come with the package: `python benchmarks/models.py`, or `make models` (about an hour of one core).

ATLOP is trained whole, on 9,600 documents of the embedded corpus. Its encoder is then frozen, and the parts of the
other four papers are trained on top of it, with documents that it has not seen. So the five papers share one encoder:
two of these models differ only in the paper. Each folder in `data/models/` holds a model in 16 bits and
`card.json`: data, seed, settings, and scores of exactly this file on 600 test documents.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from accelerate.utils import set_seed

from docre_lite.bench.rows import plain
from docre_lite.corpus import generate
from docre_lite.encode import Tokenizer
from docre_lite.evaluate import score
from docre_lite.model import DocRE, build, classifier
from docre_lite.predict import predict, tune
from docre_lite.support.machine import environment
from docre_lite.support.store import read_json, write_json
from docre_lite.train import configure, fit, fit_frozen
from docre_lite.types import Document

MODELS = Path(__file__).parent.parent / "data" / "models"
SEED = 0
READ = 9600  # documents that the encoder learns to read from
SHOWN = 2400  # documents after those, which the other parts are trained on
DEV, TEST, CHECK = 300, 600, 40  # CHECK: the number of test documents that a test of the package scores again
ENCODER = {"epochs": 5, "encoder_lr": 2e-3, "classifier_lr": 2e-3, "min_count": 120}
HEADS: dict[str, dict] = {
    "atlop": {"epochs": 5},
    "docunet": {"epochs": 5, "unet_width": 16, "channels": 16},
    "paee": {"epochs": 5},
    "docre_ii": {"epochs": 8},  # two stages share them
    "dre_mir": {"epochs": 5},
}
RATES = (1e-3, 3e-3)  # rates for `frozen.py --rates` to try for each paper; `rates_frozen.json` stores the outcomes
CHOSEN = {"atlop": 3e-3, "docunet": 3e-3, "paee": 1e-3, "docre_ii": 3e-3, "dre_mir": 3e-3}


def head(
    reader: DocRE,
    paper: str,
    documents: Sequence[Document],
    dev: Sequence[Document],
    seed: int,
    watch: Callable[[int, DocRE], None] | None = None,
    change: Callable[[DocRE], None] | None = None,
    **settings,
) -> DocRE:
    """A paper's part, trained alone on the features of `reader`'s encoder; thresholds are set on dev.

    `watch` is called after each epoch with the model as it then predicts; `change` may replace parts of the new model.
    """
    given = {"classifier_lr": CHOSEN[paper], **HEADS[paper], **settings}
    rate = given["classifier_lr"]
    given.setdefault("matrix_lr", rate)
    if paper == "docre_ii":
        given.setdefault("base_lr", float(rate) / 10)
    config, rest = configure(paper, "tiny", seed=seed, **given)
    of = reader.tokenizer
    reading = replace(of.reading, context=rest.get("context", of.reading.context))  # ATLOP's arm without context
    tokenizer = Tokenizer(of.subwords, of.relations, of.types, reading)
    set_seed(seed)
    model = DocRE(tokenizer, reader.encoder, classifier(paper, tokenizer, reader.encoder, **rest))
    if change:
        change(model)
    for step in fit_frozen(model, documents, config):
        if watch and step.step % (step.steps // config.epochs) == 0:
            tune(model, dev)
            watch(step.epoch, model)
            model.classifier.train()
    tune(model, dev)
    return model.eval()


def ship(model: DocRE, folder: Path, settings: dict, shares: str | None, curve: Sequence[dict] = ()) -> None:
    """Saves a model in 16 bits, and the scores of the saved model; `curve`: dev scores of each epoch."""
    shutil.rmtree(folder, ignore_errors=True)
    model.write(folder, half=True, shares=shares)
    saved, test = DocRE.load(folder), generate("test", TEST)
    card: dict = {"paper": model.classifier.name, "seed": SEED, "settings": settings}
    card |= {"documents": {"encoder": READ, "part": READ if not shares else SHOWN, "test": TEST, "check": CHECK}}
    for name, documents in (("test", test), ("check", test[:CHECK])):
        scores = score(predict(saved, documents), documents).to_dict()
        card[name] = {key: value for key, value in scores.items() if isinstance(value, int | float)}
        card[name]["composed_recall_by_depth"] = scores["composed_recall_by_depth"]
    kept = ("f1", "intra_f1", "inter_f1", "composed_f1")
    card["curve"] = [{"epoch": k, **{key: dev[key] for key in kept}} for k, dev in enumerate(curve, 1)]
    write_json(folder / "card.json", card | {"environment": environment()})
    print(
        folder.name, f"F1 {100 * card['test']['f1']:.1f}, composed {100 * card['test']['composed_f1']:.1f}", flush=True
    )


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    ask.add_argument("--out", type=Path, default=MODELS)
    ask.add_argument("--run", type=Path, help="finished ATLOP run with these settings, instead of training one")
    ask.add_argument("--papers", nargs="*", default=list(HEADS))
    args = ask.parse_args()
    torch.set_num_threads(1)
    environment()  # the commit, before anything is written
    dev = generate("dev", DEV)
    curve: list[dict] = []
    if args.run:
        reader = DocRE.load(args.run / "model")
        curve = [epoch["dev"] for epoch in read_json(args.run / "metrics.json")["history"]]
        told = read_json(args.run / "run.json")
        if told["seed"] != SEED or plain(told["settings"]) != plain(ENCODER):
            ask.error(f"{args.run}: seed {told['seed']} and {told['settings']}, not {SEED} and {ENCODER}")
    elif (args.out / "atlop" / "model.json").is_file() and "atlop" not in args.papers:
        reader = DocRE.load(args.out / "atlop")
    else:
        config, settings = configure("atlop", "tiny", seed=SEED, **ENCODER)
        documents = generate("train", READ)
        set_seed(SEED)
        reader = build("atlop", documents, "tiny", **settings)
        for step in fit(reader, documents, dev, config):
            if step.scores:
                curve.append(step.scores.to_dict())
                print(f"encoder, epoch {step.epoch}: dev F1 {100 * step.scores.f1:.1f}", flush=True)
    if "atlop" in args.papers:
        ship(reader, args.out / "atlop", ENCODER, None, curve)
    for paper in (p for p in args.papers if p != "atlop"):
        begin = time.process_time()
        model = head(reader, paper, generate("train", SHOWN, first=READ), dev, SEED)
        print(paper, f"{time.process_time() - begin:.0f} CPU s", flush=True)
        ship(model, args.out / paper, {"classifier_lr": CHOSEN[paper], **HEADS[paper]}, "../atlop")


if __name__ == "__main__":
    main()
