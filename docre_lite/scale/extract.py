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
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm.auto import tqdm

from ..model import located
from ..predict import EVIDENCE
from ..support import DataError
from ..support.machine import give_back, warn_of_emulation
from ..support.settings import Amount, Count, Share, option, settings
from ..support.store import alone, read_json, sweep
from . import parts
from .engines import ray_library, with_processes, with_ray
from .parts import Job, Part, Source, find, loaded_model, parts_of, write

COUNTS = ("documents", "triples", "rejected")
MANIFEST, REJECTED = "_manifest.json", "_rejected"  # with "_": readers of a folder of parquet pass over them


@settings
class How:
    """All that decides what is found, and how much is worked on at a time."""

    part_size: Count = option(256, "documents of a part: what a run that is ended has to do again, for each worker")
    batch_size: Count = option(8, "documents at a time")
    budget: Count = option(1 << 14, "tokens, and pairs of entities, at a time; a document with more is set aside")
    evidence: Share = option(EVIDENCE, "share of a pair's attention that makes a sentence evidence")
    precision: Literal["fp32", "bf16"] = option("fp32", "bf16 is faster where the hardware multiplies it")
    seed: Amount = option(0, "of models that draw while they predict; each part begins with it")
    options: dict[str, Any] | None = option(None, "settings of the paper that say how to predict, see `DocRE.load`")


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
    """Finds the triples of all documents of the inputs; goes on where an earlier call with the same arguments stopped.

    Memory does not grow with the inputs: a worker holds one part and one batch, and one part more waits to be worked
    on. The result is the same for any number of workers and either engine.

    Args:
        model: folder of a saved model, or a name as for `docre_lite.load`.
        inputs: patterns of file names; JSON lines, gzipped or not, or parquet, see `stream`.
        out: folder to write `triples-<input>-<k>.parquet` (`SCHEMA`), `_manifest.json` and `_rejected/` to; as a whole
            it is a table to readers of parquet.
        workers: processes, with a model each; of this machine, or with `engine="ray"` Ray's, see `with_ray`.
        threads: CPU threads of a process; if not given, torch's choice for one, and the cores shared out for several.
        how: any of `How`.

    Returns: counts of inputs, parts, documents, triples, rejected.

    Raises:
        ValueError: one line on arguments, inputs, a model or an output that cannot be used; what is finished stays.
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
    """Loads the model once: what is wrong with it is better known now."""
    loaded_model.cache_clear()
    given = asdict(how) | {"options": dict(how.options or {})}
    model = loaded_model(folder, tuple(given["options"].items()))
    warn_of_emulation(how.precision, model.device)
    if not model.classifier.draws:  # else what is drawn depends on what is read at a time
        del given["batch_size"]
    return Job(folder, out, {"model": _digest(folder), **given}, how.batch_size)


def _worked(job: Job, sources: Sequence[Source], done: Mapping, bar: tqdm, engine: str, workers: int, threads):
    """The counts of the missing parts, as they are done."""
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
    """One number for all files of a model, and of the one whose encoder it shares."""
    digest, home = hashlib.sha256(), folder / str(read_json(folder / "model.json").get("shares", ""))
    for path in sorted(p for place in {folder, home} for p in place.iterdir() if p.is_file()):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """The folder for this process alone, without what others left half written. The lock ends with the process."""
    with alone(out):
        sweep(out)
        sweep(out / REJECTED)
        yield
