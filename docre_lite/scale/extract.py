"""Many documents to triples: streamed from JSON lines or parquet into parquet parts, by any number of processes.

A part is the unit of work: some rows of one input and all that was found in them. It stands under its name once it
is complete and says in its metadata what it was made from: a run that was ended goes on with the missing parts.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm.auto import tqdm

from ..predict import EVIDENCE
from ..support import DataError
from ..support.machine import give_back, warn_of_emulation
from ..support.store import alone
from . import parts
from .engines import ray_library, with_processes, with_ray
from .parts import Job, Part, Source, find, loaded_model, parts_of, write

BUDGET = 1 << 14  # tokens, or pairs, of a batch; the largest tensor, pairs × tokens, has at most its square: 1 GiB
COUNTS = ("documents", "triples", "rejected")
MANIFEST, REJECTED = "_manifest.json", "_rejected"  # with "_": readers of a folder of parquet pass over them


def extract(
    model: str | Path,
    inputs: str | Sequence[str],
    out: str | Path,
    *,
    workers: int = 1,
    engine: str = "local",
    threads: int | None = None,
    part_size: int = 256,
    batch_size: int = 8,
    budget: int = BUDGET,
    evidence: float = EVIDENCE,
    seed: int = 0,
    precision: str = "fp32",
    progress: bool = False,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Finds the triples of all documents of the inputs; goes on where an earlier call with the same arguments stopped.

    Memory does not grow with the inputs: a worker holds one part and one batch, and one part more waits to be worked
    on. The result is the same for any number of workers and either engine.

    Args:
        model: folder of a saved model.
        inputs: patterns of file names; JSON lines, gzipped or not, or parquet, see `readers.stream`.
        out: folder to write `triples-<input>-<k>.parquet` (`SCHEMA`), `_manifest.json` and `_rejected/` to; as a whole
            it is a table to readers of parquet.
        workers: processes, with a model each.
        engine: "local", or "ray": the workers are Ray's, see `with_ray`.
        threads: CPU threads of a process; if not given, torch's choice for one, and the cores shared out for several.
        part_size: documents of a part: what a run that is ended has to do again, at most, for each worker.
        batch_size: documents at a time.
        budget: tokens, and pairs of entities, at a time; a document with more is set aside.
        evidence: see `predict`.
        seed: of models that draw while they predict; each part begins with it.
        precision: "fp32", or "bf16": faster where the hardware multiplies it, and some answers at the edge are others.
        options: settings of the paper that say how to predict, see `DocRE.load`.

    Returns:
        Counts: inputs, parts, documents, triples, rejected.

    Raises:
        ValueError: one line on arguments, inputs, a model or an output that cannot be used; what is finished stays.
    """
    model, out = Path(model), Path(out)
    sources = find(inputs, out)
    loaded_model.cache_clear()
    options = dict(options or {})
    loaded = loaded_model(model, tuple(options.items()))  # what is wrong with it is better known now
    draws = loaded.classifier.draws
    warn_of_emulation(precision, loaded.device)
    del loaded  # where others do the work
    settings = {"part_size": part_size, "budget": budget, "evidence": evidence, "seed": seed, "options": options}
    settings["precision"] = precision
    settings |= {"batch_size": batch_size} if draws else {}  # what is drawn depends on what is read at a time
    job = Job(model, out, {"model": _digest(model), **settings}, batch_size)
    if engine == "ray":
        ray_library()  # before anything is written
    with _locked(out):
        done = finished(job, sources)
        _write_manifest(job, sources, done, complete=False)
        with tqdm(
            total=sum(source.bytes for source in sources),
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            disable=None if progress else True,
        ) as bar:
            if engine == "ray":
                bar.update(sum(count["bytes"] for count in done.values()))
                results = with_ray(job, sources, done, workers, threads)
            elif workers > 1:
                loaded_model.cache_clear()
                give_back()
                results = with_processes(job, _missing(sources, part_size, done, bar), workers, threads)
            else:
                if threads:
                    torch.set_num_threads(threads)
                results = (parts.work(job, part) for part in _missing(sources, part_size, done, bar))
            totals = _totals(done.values())
            for count in results:
                done[count["name"]] = count
                totals.update({key: count[key] for key in COUNTS})
                bar.update(count["bytes"])
                bar.set_postfix(totals, refresh=False)
        return _write_manifest(job, sources, done, complete=True)


def _missing(sources: Iterable[Source], size: int, done: Mapping[str, Any], bar: tqdm) -> Iterator[Part]:
    for source in sources:
        for part in parts_of(source, size):
            if part.name not in done:
                yield part
            else:
                bar.update(part.bytes)


def finished(job: Job, sources: Sequence[Source]) -> dict[str, dict[str, Any]]:
    """The counts of every part that is there and whole. Raises `DataError` if one comes from another run."""
    marks = {source.name: source.mark for source in sources}
    done = {}
    for path in sorted(job.out.glob("triples-*.parquet")):
        about = _about(path)
        if about is None:
            continue
        count, settings = about["count"], about["settings"]
        changed = [key for key, value in job.settings.items() if settings.get(key) != value]
        if marks.get(count["input"]["name"]) != count["input"]:
            changed.append(f"input ({count['input']['name']})")
        if changed:
            raise DataError(
                f"{job.out}: holds triples of a run with another {', '.join(changed)}; "
                "give the same as then, or choose another --out"
            )
        done[path.name] = count
    return done


def _about(path: Path) -> dict[str, Any] | None:
    """What a part says of itself; nothing if it is torn."""
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        return json.loads(table.schema.metadata[b"docre_lite"])
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return None


def _write_manifest(job: Job, sources: Sequence[Source], done: Mapping[str, Any], complete: bool) -> dict[str, Any]:
    own: dict[str, list] = {source.name: [] for source in sources}
    for count in done.values():
        own[count["input"]["name"]].append(count)
    inputs = [{**s.mark, "parts": len(own[s.name]), **_totals(own[s.name])} for s in sources]
    totals = {"inputs": len(sources), "parts": len(done), **_totals(done.values())}
    manifest = {"complete": complete, **totals, "settings": dict(job.settings), "files": inputs}
    write(job.out / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode() + b"\n")
    return totals


def _totals(counts: Iterable[Mapping[str, Any]]) -> Counter[str]:
    totals = Counter(dict.fromkeys(COUNTS, 0))
    for count in counts:
        totals.update({key: count[key] for key in COUNTS})
    return totals


def _digest(folder: Path) -> str:
    """One number for all files of a model."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """The folder for this process alone, without what others left half written. The lock ends with the process."""
    with alone(out):
        for left in [*out.glob(".*.tmp"), *out.glob(f"{REJECTED}/.*.tmp")]:
            left.unlink(missing_ok=True)
        yield
