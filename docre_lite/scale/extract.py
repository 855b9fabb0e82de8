"""Many documents to triples: streamed from JSON lines or parquet into parquet parts, by any number of processes.

A part is the unit of work: some rows of one input and the triples found in them. A part gets its name once it is
complete, and its metadata records its input and settings: an interrupted run continues with the missing parts.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm.auto import tqdm

from ..model import located
from ..predict import BUDGET, EVIDENCE
from ..support import DataError
from ..support.machine import give_back, warn_of_emulation
from ..support.settings import Amount, Count, Share, option, settings
from ..support.store import alone, read_json, sweep
from . import parts
from .engines import ray_library, with_processes, with_ray
from .parts import Job, Part, Source, find, loaded_model, parts_of, write

COUNTS = ("documents", "triples", "rejected")
MANIFEST, REJECTED = "_manifest.json", "_rejected"  # readers of parquet folders skip names that begin with "_"


@settings
class How:
    """The settings that determine which triples are found, and how much is processed at a time."""

    part_size: Count = option(256, "documents per part: the most work that an interruption costs each worker")
    batch_size: Count = option(8, "documents per batch")
    budget: Count = option(
        BUDGET,
        "most tokens, entity pairs, rows of attention (mentions times heads) or sentences per batch; larger documents "
        "are set aside",
    )
    evidence: Share = option(EVIDENCE, "share of a pair's attention that makes a sentence evidence")
    precision: Literal["fp32", "bf16", "fp16"] = option("fp32", "16 bits are faster if the hardware multiplies them")
    seed: Amount = option(0, "seed of models that draw during prediction; each part starts from it")
    options: dict[str, Any] | None = option(None, "settings of the paper for prediction, see `DocRE.load`")


def extract(
    model: str | Path,
    inputs: str | Sequence[str],
    out: str | Path,
    *,
    workers: int = 1,
    engine: str = "local",
    threads: int | None = None,
    progress: bool = False,
    **how: Any,
) -> dict[str, Any]:
    """Finds the triples of all documents of the inputs; continues where an earlier call with equal arguments stopped.

    Memory does not grow with the inputs: each worker holds one part and one batch, and one more part waits.
    The result is the same for any number of workers and either engine.

    Args:
        model: folder of a saved model, or a name as for `docre_lite.load`.
        inputs: patterns of file names; JSON lines, gzipped or not, or parquet, see `stream`.
        out: folder that receives `triples-<input>-<k>.parquet` (`SCHEMA`), `_manifest.json` and `_rejected/`; readers
            of parquet see the whole folder as one table.
        workers: processes with a model each, on this machine or, with `engine="ray"`, Ray's; see `with_ray`.
        threads: CPU threads per process; by default torch's choice for one process, else an equal share of the cores.
        how: any field of `How`.

    Returns: counts of inputs, parts, documents, triples, rejected.

    Raises:
        ValueError: one line on arguments, inputs, a model or an output that cannot be used; finished parts stay.
    """
    out = Path(out)
    sources = find(inputs, out)
    job = _job(located(model), out, How(**how))
    if engine == "ray":
        ray_library()  # before anything is written
    size, unit = sum(source.bytes for source in sources), {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
    with _locked(out), tqdm(total=size, disable=None if progress else True, **unit) as bar:
        done = finished(job, sources)
        _write_manifest(job, sources, done, complete=False)
        totals = _totals(done.values())
        for count in _worked(job, sources, done, bar, engine, workers, threads):
            done[count["name"]] = count
            totals.update({key: count[key] for key in COUNTS})
            bar.update(count["bytes"])
            bar.set_postfix(totals, refresh=False)
        return _write_manifest(job, sources, done, complete=True)


def _job(folder: Path, out: Path, how: How) -> Job:
    """Loads the model once, so that faults in it surface now."""
    loaded_model.cache_clear()
    given = asdict(how) | {"options": dict(how.options or {})}
    model = loaded_model(folder, tuple(given["options"].items()))
    warn_of_emulation(how.precision, model.device)
    if not model.classifier.draws:  # else the draws depend on the batches
        del given["batch_size"]
    return Job(folder, out, {"model": _digest(folder), **given}, how.batch_size)


def _worked(job: Job, sources: Sequence[Source], done: Mapping, bar: tqdm, engine: str, workers: int, threads):
    """The counts of the missing parts, as they finish."""
    if engine == "ray":
        bar.update(sum(count["bytes"] for count in done.values()))
        return with_ray(job, sources, done, workers, threads)
    missing = _missing(sources, job.settings["part_size"], frozenset(done), bar)
    if workers > 1:
        loaded_model.cache_clear()
        give_back()
        return with_processes(job, missing, workers, threads)
    if threads:
        torch.set_num_threads(threads)
    return (parts.work(job, part) for part in missing)


def _missing(sources: Iterable[Source], size: int, done: frozenset[str], bar: tqdm) -> Iterator[Part]:
    for source in sources:
        for part in parts_of(source, size):
            if part.name not in done:
                yield part
            else:
                bar.update(part.bytes)


def finished(job: Job, sources: Sequence[Source]) -> dict[str, dict[str, Any]]:
    """The counts of every part that is present and whole. Raises `DataError` if one comes from another run."""
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
                "repeat the earlier arguments, or choose another --out"
            )
        done[path.name] = count
    return done


def _about(path: Path) -> dict[str, Any] | None:
    """The metadata of a part; None if the file is truncated."""
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
    """One checksum of all files of a model, and of the model whose encoder it shares."""
    digest, home = hashlib.sha256(), folder / str(read_json(folder / "model.json").get("shares", ""))
    for path in sorted(p for place in {folder, home} for p in place.iterdir() if p.is_file()):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Locks the folder for this process and removes half-written files of others. The lock ends with the process."""
    with alone(out):
        sweep(out)
        sweep(out / REJECTED)
        yield
