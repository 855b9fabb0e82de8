"""Many documents to triples: streamed from JSON lines or parquet into parquet parts, by any number of processes.

A part is the unit of work: some rows of one input and all that was found in them. It stands under its name once it
is complete and says in its metadata what it was made from: a run that was ended goes on with the missing parts.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm.auto import tqdm

from .checks import DataError
from .docred import document_from_json, file_number
from .encode import Tokens
from .machine import arithmetic, warn_of_emulation
from .memory import give_back
from .model import DocRE
from .predict import EVIDENCE, predict_encoded, room
from .readers import Row, decode, parse_json, stream
from .store import alone
from .types import Document, Triple

BUDGET = 1 << 14  # tokens, or pairs, of a batch; the largest tensor, pairs × tokens, has at most its square: 1 GiB
PART_BYTES = 1 << 24  # rows of a part; only rows far larger than documents are get there
COUNTS = ("documents", "triples", "rejected")
MANIFEST, REJECTED = "_manifest.json", "_rejected"  # with "_": readers of a folder of parquet pass over them
OBJECT = re.compile(rb"(\xef\xbb\xbf)?\s*\{\s*\S")  # how a line with a document begins
SCHEMA = pa.schema(
    {
        "input": pa.string(),  # as in the manifest
        "row": pa.int64(),  # line or parquet row, from 0
        "title": pa.string(),
        "head": pa.int32(),  # entities have the input's numbers
        "head_name": pa.string(),  # name and type of the first mention
        "head_type": pa.string(),
        "tail": pa.int32(),
        "tail_name": pa.string(),
        "tail_type": pa.string(),
        "relation": pa.string(),
        "score": pa.float32(),  # margin over the threshold, in logits
        "evidence": pa.list_(pa.int32()),  # sentences, the strongest first
    }
)


@dataclass(frozen=True)
class Source:
    """An input: its path below the folder that all inputs share, and what tells it from another file."""

    name: str
    path: Path
    bytes: int
    sha256: str  # of the first and the last MiB

    @property
    def mark(self) -> dict[str, Any]:
        return {"name": self.name, "bytes": self.bytes, "sha256": self.sha256}


@dataclass(frozen=True)
class Part:
    """Consecutive rows of an input. Where parts begin and end depends on the input and `part_size` alone."""

    source: Source
    number: int
    rows: list[Row]
    bytes: int  # of the input, from the end of the part before to its own

    @property
    def name(self) -> str:
        return part_name(self.source.name, self.number)


@dataclass(frozen=True)
class Job:
    """What a process must know to work on parts."""

    model: Path
    out: Path
    settings: Mapping[str, Any]  # all that decides what is found
    batch_size: int


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
        engine: "local", or "ray": the workers are Ray's, see `extract_with_ray`.
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
    _model.cache_clear()
    options = dict(options or {})
    loaded = _model(model, tuple(options.items()))  # what is wrong with it is better known now
    draws = loaded.classifier.draws
    warn_of_emulation(precision, loaded.device)
    del loaded  # where others do the work
    settings = {"part_size": part_size, "budget": budget, "evidence": evidence, "seed": seed, "options": options}
    settings["precision"] = precision
    settings |= {"batch_size": batch_size} if draws else {}  # what is drawn depends on what is read at a time
    job = Job(model, out, {"model": _digest(model), **settings}, batch_size)
    if engine == "ray":
        _ray()  # before anything is written
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
                results = extract_with_ray(job, sources, done, workers, threads)
            elif workers > 1:
                _model.cache_clear()
                give_back()
                results = _with_processes(job, _missing(sources, part_size, done, bar), workers, threads)
            else:
                if threads:
                    torch.set_num_threads(threads)
                results = (work(job, part) for part in _missing(sources, part_size, done, bar))
            totals = _totals(done.values())
            for count in results:
                done[count["name"]] = count
                totals.update({key: count[key] for key in COUNTS})
                bar.update(count["bytes"])
                bar.set_postfix(totals, refresh=False)
        return _write_manifest(job, sources, done, complete=True)


# --- inputs ---------------------------------------------------------------------------------------------------------


def find(patterns: str | Sequence[str], out: Path) -> list[Source]:
    """The files of the patterns in order of their names, but for what an earlier call wrote to `out`.

    Raises `DataError` if one of them cannot be read at all.
    """
    found: set[Path] = set()
    out = Path(os.path.abspath(out))
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if Path(pattern).is_dir():
            raise DataError(f"{pattern}: is a folder; give a pattern of the files in it, such as '{pattern}/*.jsonl'")
        named = Path(pattern).is_file()
        files = [pattern] if named else glob.glob(pattern, recursive=True)
        files = [Path(os.path.abspath(name)) for name in files if Path(name).is_file()]
        if not files:
            raise DataError(f"{pattern}: no file has such a name; check the path, and quote a pattern")
        inputs = [path for path in files if path.parent not in (out, out / REJECTED)]
        if not inputs:
            raise DataError(f"{files[0]}: lies in the --out folder; choose another one")
        found.update(inputs)
    common = Path(os.path.commonpath([path.parent for path in found]))
    sources = [_source(path, path.relative_to(common).as_posix()) for path in sorted(found)]
    names: dict[str, Source] = {}
    for source in sources:
        if (other := names.setdefault(part_name(source.name, 0), source)) is not source:
            raise DataError(f"{source.path}: its parts would have the names of {other.path}'s; rename one of the two")
        first = list(islice(stream(source.path), 10))  # one may be torn, and is set aside; not all of them
        if first and not any(isinstance(r.data, DataError) or OBJECT.match(r.data) for r in first):
            raise DataError(
                f"{source.path}: not one document a line, as JSON; write it so, or use `docre-lite predict`"
            )
    return sources


def _source(path: Path, name: str) -> Source:
    try:
        with path.open("rb") as file:
            size, mebibyte = path.stat().st_size, 1 << 20
            digest = hashlib.sha256(file.read(mebibyte))
            file.seek(max(size - mebibyte, 0))
            digest.update(file.read(mebibyte))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    return Source(name, path, size, digest.hexdigest())


def part_name(source: str, number: int) -> str:
    return f"triples-{source.replace('/', '-')}-{number:05d}.parquet"


def parts(source: Source, size: int) -> Iterator[Part]:
    """The rows of an input, `size` at a time, or fewer if they are very large."""
    number = length = begin = 0
    rows: list[Row] = []
    for row in stream(source.path):
        rows.append(row)
        length += len(row.data) if isinstance(row.data, bytes) else 0
        if len(rows) == size or length >= PART_BYTES:
            yield Part(source, number, rows, row.position - begin)
            number, length, begin, rows = number + 1, 0, row.position, []
    if rows:
        yield Part(source, number, rows, rows[-1].position - begin)


def _missing(sources: Iterable[Source], size: int, done: Mapping[str, Any], bar: tqdm) -> Iterator[Part]:
    for source in sources:
        for part in parts(source, size):
            if part.name not in done:
                yield part
            else:
                bar.update(part.bytes)


# --- one part -------------------------------------------------------------------------------------------------------


def work(job: Job, part: Part) -> dict[str, Any]:
    """Finds and writes the triples of a part, what was set aside first: the part's file says that both are there."""
    give_back()
    model = _model(job.model, tuple(job.settings["options"].items()))
    torch.manual_seed(job.settings["seed"])
    encoded, rejected = _encode(model, part, job.settings["budget"])
    try:
        with arithmetic(job.settings["precision"], model.device):
            found = predict_encoded(
                model,
                list(encoded.values()),
                job.batch_size,
                evidence=job.settings["evidence"],
                budget=job.settings["budget"],
            )
    except Exception as error:
        error.add_note(f"{part.source.path}: in rows {part.rows[0].number} to {part.rows[-1].number}")
        raise
    columns = _columns(part, encoded, found)
    count = {
        "name": part.name,
        "input": part.source.mark,
        "first": part.rows[0].number,
        "bytes": part.bytes,
        "documents": len(encoded),
        "triples": len(columns["row"]),
        "rejected": len(rejected),
    }
    if rejected:
        lines = "".join(json.dumps(row) + "\n" for row in sorted(rejected, key=lambda row: row["row"]))
        _write(job.out / REJECTED / f"{Path(part.name).stem.removeprefix('triples-')}.jsonl", lines.encode())
    about = {"docre_lite": json.dumps({"settings": dict(job.settings), "count": count}, sort_keys=True)}
    packed = BytesIO()
    table = pa.table(columns, SCHEMA.with_metadata(about))
    pq.write_table(table, packed, compression="zstd", write_page_checksum=True)
    _write(job.out / part.name, packed.getvalue())
    return count


def _encode(model: DocRE, part: Part, budget: int) -> tuple[dict[int, Tokens], list[dict[str, Any]]]:
    """The documents of a part in sub-words by their rows, and what is set aside."""
    documents: dict[int, Document] = {}
    rejected = []

    def reject(row: int, title: object, reason: str) -> None:
        rejected.append({"input": part.source.name, "row": row, "title": title, "reason": reason})

    for row in part.rows:
        obj = None
        where = f"{part.source.name}: row {row.number}"
        try:
            if isinstance(row.data, DataError):
                raise row.data
            obj = parse_json(decode(row.data, where), where)
            if isinstance(obj, dict):
                obj.pop("labels", None)  # they are not looked at
            documents[row.number] = document_from_json(obj, where)
        except DataError as error:
            reject(row.number, obj.get("title") if isinstance(obj, dict) else None, str(error))
    encoded = dict(zip(documents, model.tokenizer.encode(list(documents.values())), strict=True))
    for row, tokens in list(encoded.items()):
        if (takes := room([tokens])) > budget:
            what = "tokens" if takes == len(tokens.ids) else "pairs of entities"
            reason = f"{takes} {what}, more than the budget of {budget}; raise it if there is memory"
            reject(row, encoded.pop(row).document.title, reason)
    return encoded, rejected


def _columns(part: Part, encoded: Mapping[int, Tokens], found: Sequence[Sequence[Triple]]) -> dict[str, list]:
    columns: dict[str, list] = {name: [] for name in SCHEMA.names}
    for (row, tokens), triples in zip(encoded.items(), found, strict=True):
        document = tokens.document
        for t in triples:
            head, tail = document.entities[t.head], document.entities[t.tail]
            values = [part.source.name, row, document.title]
            values += [file_number(document, t.head), head.name, head.type]
            values += [file_number(document, t.tail), tail.name, tail.type]
            values += [t.relation, t.score, list(t.evidence)]
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    return columns


@lru_cache(maxsize=1)
def _model(folder: Path, options: tuple) -> DocRE:
    return DocRE.load(folder, **dict(options)).to("cuda" if torch.cuda.is_available() else "cpu")


def _write(path: Path, data: bytes) -> None:
    """The whole file or none, whenever the process or the machine is stopped."""
    begun = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with begun.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(begun, path)
        if os.name == "posix":  # the name, too
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        begun.unlink(missing_ok=True)
        raise DataError(
            f"{path}: cannot be written ({error.strerror}); mend that and give the same command again: "
            "it goes on where it stopped"
        ) from None


# --- what is there already ------------------------------------------------------------------------------------------


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
    _write(job.out / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode() + b"\n")
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


# --- several processes ----------------------------------------------------------------------------------------------


def _with_processes(job: Job, missing: Iterable[Part], workers: int, threads: int | None) -> Iterator[dict[str, Any]]:
    """No more parts are under way than workers, so that an interrupted run ends soon; one more waits."""
    threads = threads or max(1, torch.get_num_threads() // workers)
    spawn = get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, spawn, _begin, (threads, spawn.Value("i", 0))) as pool:
            running = set()
            for part in missing:
                if len(running) == workers:
                    ready, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in ready:
                        yield future.result()
                running.add(pool.submit(work, job, part))
            for future in as_completed(running):
                yield future.result()
    except BrokenProcessPool:
        raise DataError(
            "a worker was ended from outside, perhaps for want of memory; give the same command again with fewer "
            "--workers or a smaller --batch-size: it goes on where it stopped"
        ) from None


def _begin(threads: int, begun: Synchronized[int]) -> None:
    """A worker leaves interrupts to the first process, and ends with it even if that is killed.

    Workers take turns at the GPUs of this machine; `begun` counts them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    with begun.get_lock():
        number, begun.value = begun.value, begun.value + 1
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    threading.Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()


def _ray() -> ModuleType:
    try:
        import ray
        import ray.data
    except ImportError:
        raise ValueError("the engine 'ray' needs Ray: pip install 'docre_lite[ray]', or leave --engine out") from None
    return ray


def extract_with_ray(
    job: Job, sources: Sequence[Source], done: Mapping[str, Any], workers: int, threads: int | None = None
) -> Iterator[dict[str, Any]]:
    """Ray Data maps the same function over the same parts: inputs are streamed by tasks, parts by actors with a model.

    It runs on the cluster that `RAY_ADDRESS` or an earlier `ray.init` names, else on this machine. All machines must
    see the folders of model, inputs and output under the same paths.
    """
    ray = _ray()
    job = replace(job, model=job.model.absolute(), out=job.out.absolute())  # its processes start elsewhere
    with _ray_data(ray, workers):
        gpus = int(ray.cluster_resources().get("GPU", 0))
        rows = [{**source.mark, "path": str(source.path)} for source in sources]
        # other needs than a worker's: reading stays a task of its own, and the parts of one input go to all workers
        missing = ray.data.from_items(rows, override_num_blocks=len(rows)).flat_map(
            _ray_parts, fn_args=(job.settings["part_size"], frozenset(done)), num_cpus=0.5
        )
        found = missing.map(
            _RayWorker,
            fn_constructor_args=(job, threads),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_gpus=1 / math.ceil(workers / gpus) if gpus else None,  # for each worker; Ray hides the other GPUs
        )
        for row in found.iter_rows():
            if row["fault"]:
                raise DataError(row["fault"])
            yield json.loads(row["count"])


def _ray_parts(row: dict[str, Any], size: int, done: frozenset[str]) -> Iterator[dict[str, Any]]:
    source = Source(row["name"], Path(row["path"]), row["bytes"], row["sha256"])
    return ({"part": part} for part in parts(source, size) if part.name not in done)


class _RayWorker:
    def __init__(self, job: Job, threads: int | None):
        self.job = job
        torch.set_num_threads(threads or 1)

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        try:
            return {"count": json.dumps(work(self.job, row["part"])), "fault": ""}
        except DataError as error:  # Ray would say it in many lines
            return {"count": "", "fault": str(error)}


@contextmanager
def _ray_data(ray, workers: int) -> Iterator[None]:
    """Ray as it is needed here; afterwards as it was before."""
    begun = ray.is_initialized()
    if not begun:
        cluster = {} if "RAY_ADDRESS" in os.environ else {"address": "local", "num_cpus": workers + 1}
        ray.init(log_to_driver=False, **cluster)
    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars, context.target_max_block_size
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # a part is a block, so that it goes to the next worker once it is read
    try:
        yield
    finally:
        context.enable_progress_bars, context.target_max_block_size = before
        if not begun:
            ray.shutdown()
