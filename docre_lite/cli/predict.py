"""`docre-lite predict`: reads a file of documents and writes a file of triples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from .options import (
    Arithmetic,
    BatchSize,
    Budget,
    Evidence,
    HowToPredict,
    Lenient,
    Model,
    file,
    model_folder,
    seed,
    settings,
    show,
)


def predict(
    run: Model,
    data: Annotated[Path, file("documents; labels, if any, are ignored")],
    out: Annotated[
        Path,
        file(
            "JSON in the DocRED submission format, with scores; h_idx and t_idx number the entities from 0: as in the "
            "file if it has DocRED's format, else by first mention"
        ),
    ],
    zip: Annotated[bool, Option("--zip", help="also write result.zip beside it, for CodaLab")] = False,
    evidence: Evidence = 0.2,
    batch_size: BatchSize = 8,
    budget: Budget = 1 << 14,
    precision: Arithmetic = "fp32",
    set: HowToPredict = None,
    seed: Annotated[int, seed("seed for the pairs that test_mask_rate hides (DRE-MIR)")] = 0,
    lenient: Lenient = False,
) -> None:
    """Find the triples of documents with a trained model."""
    from accelerate.utils import set_seed

    from ..formats.readers import read
    from ..formats.submission import write_submission
    from ..model import DocRE
    from ..predict import predict as find
    from ..support.machine import arithmetic, processes, warn_of_emulation
    from ..support.store import check_writable, writing

    if out.is_dir():
        raise ValueError(f"{out} is a folder; --out takes a file, such as {out / 'result.json'}")
    if out.exists() and out.samefile(data):
        raise ValueError(f"{out}: is the file of documents, which --out would overwrite; choose another file")
    check_writable(out)
    documents = read(data, labels=False, strict=not lenient)
    model = DocRE.load(model_folder(run), **settings(set)).to(processes().device)
    set_seed(seed)
    warn_of_emulation(precision, model.device)
    with arithmetic(precision, model.device):
        triples = find(model, documents, batch_size, progress=True, evidence=evidence, budget=budget)
    with writing(out, "fix that, or choose another --out"):
        write_submission(triples, out, documents, zip=zip)
    show({"documents": len(documents), "triples": len(triples), "out": str(out)})
