"""Triples of many documents: what `predict` finds, whatever stops the run, however many work on it."""

from __future__ import annotations

import errno
import fcntl
import gzip
import json
import os
import random
import re
import sys
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from patience import patience
from small import extract_with_forks, made, sgd_steps, tiny

from docre_lite.cli.main import main
from docre_lite.formats.docred import document_to_json, file_number
from docre_lite.formats.readers import read
from docre_lite.formats.stream import stream
from docre_lite.model import DocRE
from docre_lite.predict import batches, predict, predict_encoded, room
from docre_lite.scale import engines, parts
from docre_lite.scale.extract import extract
from docre_lite.scale.parts import SCHEMA
from docre_lite.support import DataError
from docre_lite.types import Document

COUNT = 22
SMALL = {"part_size": 3, "batch_size": 2}


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    """Some have their entities in another order in the file, one has none, and so no triples."""
    found = [made(f"document {i}", 2 + i % 4, sentences=2 + i % 3) for i in range(COUNT)]
    found[4] = replace(found[4], entities=(), triples=())
    return [replace(d, order=tuple(reversed(range(len(d.entities))))) if i % 3 == 1 else d for i, d in enumerate(found)]


@pytest.fixture(scope="module")
def home(documents, tmp_path_factory) -> Path:
    """A folder with run/model, and the documents once in each format, in three files."""
    home = tmp_path_factory.mktemp("home")
    model = tiny("atlop", documents)
    sgd_steps(model, model.batch(documents), 40, lr=1e-2)
    model.save(home / "run" / "model")
    (home / "in" / "deep").mkdir(parents=True)
    (home / "in" / "a.jsonl").write_bytes(lines(documents[:10]))
    (home / "in" / "b.jsonl.gz").write_bytes(gzip.compress(lines(documents[10:18])))
    to_parquet(documents[18:], home / "in" / "deep" / "c.parquet")
    return home


def lines(documents) -> bytes:
    return "".join(json.dumps(document_to_json(d)) + "\n" for d in documents).encode()


def to_parquet(documents, path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([document_to_json(d) for d in documents]), path, row_group_size=2)


@pytest.fixture(scope="module")
def whole(home) -> Path:
    """What a run writes that nothing stops."""
    out = home / "whole"
    counts = extract(home / "run" / "model", f"{home}/in/**", out, **SMALL)
    assert counts == {"inputs": 3, "parts": 4 + 3 + 2, "documents": COUNT, "triples": len(rows(out)), "rejected": 0}
    return out


def again(home: Path, out: Path, **changes) -> dict:
    return extract(home / "run" / "model", f"{home}/in/**", out, **SMALL | changes)


def rows(out: Path) -> list[dict]:
    return [row for path in sorted(out.glob("triples-*")) for row in pq.read_table(path).to_pylist()]


class Scores(list):
    """Scores of two runs, which may differ in the last digits: sums depend on where a process's memory lies."""

    def __eq__(self, other) -> bool:
        return list(self) == pytest.approx(list(other), abs=1e-5)


def content(path: Path):
    """A file of a run: its bytes, or a part's metadata, scores, and all other columns."""
    if path.suffix != ".parquet":
        return path.read_bytes()
    table = pq.read_table(path)
    return table.schema.metadata, table.drop_columns("score").to_pylist(), Scores(table["score"].to_pylist())


def contents(out: Path) -> dict:
    """All that a run leaves."""
    assert not list(out.rglob("*.tmp"))
    return {p.relative_to(out).as_posix(): content(p) for p in out.rglob("*") if p.is_file()}


def single(path: Path, documents, **more) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(d if isinstance(d, bytes) else lines([d]) for d in documents))
    return path


# What is found


def expected(model: DocRE, documents: list[Document], triples) -> list[dict]:
    by_title = {d.title: d for d in documents}
    found = []
    for t in triples:
        d = by_title[t.title]
        head, tail = d.entities[t.head], d.entities[t.tail]
        found.append(
            {
                "title": t.title,
                "head": file_number(d, t.head),
                "head_name": head.name,
                "head_type": head.type,
                "tail": file_number(d, t.tail),
                "tail_name": tail.name,
                "tail_type": tail.type,
                "relation": t.relation,
                "score": pytest.approx(t.score, abs=1e-5),  # another batch, another rounding
                "evidence": list(t.evidence),
            }
        )
    return found


def test_the_triples_are_those_of_predict(home, whole, documents):
    model = DocRE.load(home / "run" / "model")
    given = [*read(home / "in" / "a.jsonl"), *read(home / "in" / "b.jsonl.gz"), *read(home / "in/deep/c.parquet")]
    assert [d.title for d in given] == [d.title for d in documents]
    found = rows(whole)
    where = [(row.pop("input"), row.pop("row"), row["title"]) for row in found]
    assert found == expected(model, given, predict(model, given)) and len(found) > 3 * COUNT
    files = [("a.jsonl", 10), ("b.jsonl.gz", 8), ("deep/c.parquet", 4)]
    place = dict(zip([d.title for d in given], [(name, i) for name, n in files for i in range(n)], strict=True))
    assert [(name, row) for name, row, _ in where] == [place[title] for *_, title in where]
    assert any(row["evidence"] for row in found) and any(d.order for d in given)
    for path in whole.glob("triples-*"):
        assert pq.read_schema(path).remove_metadata() == SCHEMA


def test_the_manifest_says_what_is_there(whole):
    manifest = json.loads((whole / "_manifest.json").read_text())
    assert manifest["complete"] and manifest["triples"] == len(rows(whole)) and manifest["documents"] == COUNT
    assert [(f["name"], f["parts"], f["documents"]) for f in manifest["files"]] == [
        ("a.jsonl", 4, 10),
        ("b.jsonl.gz", 3, 8),
        ("deep/c.parquet", 2, 4),
    ]
    names = {f"triples-a.jsonl-0000{k}.parquet" for k in range(4)} | {
        f"triples-b.jsonl.gz-0000{k}.parquet" for k in range(3)
    }
    names |= {f"triples-deep-c.parquet-0000{k}.parquet" for k in range(2)}
    assert {p.name for p in whole.iterdir()} == names | {"_manifest.json", ".lock"}


def test_the_folder_is_one_table(home, tmp_path):
    """For pandas and the rest, whatever stands beside the parts."""
    (tmp_path / "a.jsonl").write_bytes((home / "in" / "a.jsonl").read_bytes() + b"{}\n")
    out = tmp_path / "out"
    extract(home / "run" / "model", str(tmp_path / "a.jsonl"), out, **SMALL)
    assert {path.suffix for path in out.rglob("*") if path.is_file()} >= {".parquet", ".json", ".jsonl"}
    assert pd.read_parquet(out)[["row", "head", "tail", "relation"]].to_dict("records") == [
        {key: row[key] for key in ("row", "head", "tail", "relation")} for row in rows(out)
    ]


def test_documents_without_triples_are_done(home, documents, tmp_path):
    empty = [replace(d, entities=(), triples=(), order=None) for d in documents[:5]]
    source = single(tmp_path / "in.jsonl", empty)
    counts = extract(home / "run" / "model", str(source), tmp_path / "out", part_size=2)
    assert counts == {"inputs": 1, "parts": 3, "documents": 5, "triples": 0, "rejected": 0}
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("triples-*")}
    assert extract(home / "run" / "model", str(source), tmp_path / "out", part_size=2) == counts
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("triples-*")} == before


def test_equal_titles_are_told_apart(home, documents, tmp_path):
    one, two = documents[0], replace(documents[5], title=documents[0].title)
    source = single(tmp_path / "in.jsonl", [one, b"\n", two])
    extract(home / "run" / "model", str(source), tmp_path / "out")
    alone = [len(predict(DocRE.load(home / "run" / "model"), [d])) for d in (one, two)]
    found = [row["row"] for row in rows(tmp_path / "out")]
    assert [found.count(0), found.count(2)] == alone and min(alone) > 0 and len(found) == sum(alone)


def test_labels_are_not_looked_at(home, documents, tmp_path):
    bad = document_to_json(documents[0]) | {"labels": [{"h": 99}]}
    source = single(tmp_path / "in.jsonl", [json.dumps(bad).encode()])
    assert extract(home / "run" / "model", str(source), tmp_path / "out")["rejected"] == 0


def test_a_budget_bounds_batches(home, documents):
    model = DocRE.load(home / "run" / "model")
    encoded = model.tokenizer.encode(documents)
    budget = 3 * max(len(t.ids) for t in encoded)
    found = batches(encoded, 5, budget)
    assert sorted(k for batch in found for k in batch) == list(range(COUNT))
    assert all(len(batch) <= 5 and room([encoded[k] for k in batch]) <= budget for batch in found)
    assert {len(batch) for batch in found} >= {3, 5}  # the budget ends some, the size others
    assert batches(encoded, 5) == batches(encoded, 5, 10**9) != found
    assert batches(encoded, 5, 1) == [[k] for batch in batches(encoded, 5) for k in batch]
    pairs = batches(model.tokenizer.encode([made(f"{i}", 9, sentences=9) for i in range(4)]), 4, 2 * 150)
    assert [len(batch) for batch in pairs] == [2, 2]
    together = [t for triples in predict_encoded(model, encoded, 5, budget=budget) for t in triples]
    assert together == predict(model, documents)


# Bad documents


def test_bad_documents_are_set_aside_and_the_rest_goes_on(home, documents, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("docre_lite.formats.stream.LINE", 20_000)
    good, other = document_to_json(documents[0]), document_to_json(documents[1])
    broken = [
        (b'{"title": "torn", \n', None, "malformed JSON"),
        (b"\xff\xfe\n", None, "not UTF-8"),
        (b"[]\n", None, "an object"),
        (json.dumps(good | {"title": 7}).encode() + b"\n", 7, "title: 7 where a string belongs"),
        (json.dumps(good | {"title": "No text", "sents": []}).encode() + b"\n", "No text", "no words"),
        (json.dumps(good | {"title": "half \ud800"}).encode() + b"\n", "half \ud800", "not valid Unicode"),
        (json.dumps(good | {"title": "x" * 50_000}).encode() + b"\n", None, "longer than"),
        (lines([made("Large", 8, sentences=9, words=30)]), "Large", r"\d+ tokens, more than the budget of 200"),
        (lines([made("Crowd", 15, sentences=4)]), "Crowd", "225 pairs of entities, more than the budget"),
    ]
    text = [lines([documents[0]])] + [line for line, *_ in broken] + [lines([documents[1]]).rstrip()]
    source = single(tmp_path / "in" / "mixed.jsonl", text)
    call = ["extract", "--run", str(home / "run"), "--input", str(source), "--out", str(tmp_path / "out")]
    assert main([*call, "--part-size=4", "--budget=200"]) == 0
    said = capfd.readouterr()
    assert json.loads(said.out)["documents"] == 2 and json.loads(said.out)["rejected"] == len(broken)
    assert f"{len(broken)} documents set aside, see {tmp_path / 'out' / '_rejected'}" in said.err
    files = sorted((tmp_path / "out" / "_rejected").iterdir())
    assert [f.name for f in files] == [f"mixed.jsonl-0000{k}.jsonl" for k in range(3)]
    found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert [(r["input"], r["row"], r["title"]) for r in found] == [
        ("mixed.jsonl", i, title) for i, (_, title, _) in enumerate(broken, 1)
    ]
    for row, (*_, reason) in zip(found, broken, strict=True):
        assert re.search(reason, row["reason"]) and "\n" not in row["reason"], row
    assert {row["title"] for row in rows(tmp_path / "out")} == {good["title"], other["title"]}


def hostile(good: dict) -> dict[str, tuple[dict, str]]:
    """Documents that are read in vain, each with what is said of it."""
    mention = good["vertexSet"][0][0]
    return {
        "Mentions": (good | {"vertexSet": [[mention] * 900, good["vertexSet"][1]]}, r"\d{4} rows of attention"),
        "Sentences": (good | {"sents": good["sents"] + [[]] * 1500}, r"150\d sentences, more than the budget"),
        "Name": (
            good | {"vertexSet": [[mention | {"name": "n" * 20_000}], *good["vertexSet"][1:]]},
            "20000 characters",
        ),
    }


def test_hostile_documents_are_set_aside_with_their_reason(home, documents, tmp_path):
    cases = hostile(document_to_json(documents[0]))
    text = [json.dumps(doc | {"title": title}).encode() + b"\n" for title, (doc, _) in cases.items()]
    text += [b'{"title":' + b"[" * deep + b"]" * deep + b"}\n" for deep in (960, 985, 100_000)]
    source = single(tmp_path / "in" / "x.jsonl", [*text, *documents[:2]])
    counts = extract(home / "run" / "model", str(source), tmp_path / "out", budget=1000)
    assert (counts["rejected"], counts["documents"]) == (len(text), 2)
    told = [json.loads(line) for line in (tmp_path / "out" / "_rejected" / "x.jsonl-00000.jsonl").open()]
    for row, (_, says) in zip(told, [*cases.values(), *3 * [({}, "where a string|nested too deeply")]], strict=True):
        assert re.search(says, row["reason"]), row


@pytest.mark.parametrize(
    "error, says",
    [
        (MemoryError(), "more memory than there is"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "more memory than there",
        ),
        (RecursionError("maximum depth"), "nested too deeply"),
        (ZeroDivisionError("of all things"), "ZeroDivisionError: of all things"),
    ],
)
@pytest.mark.parametrize("where", ["encode", "features"])
def test_any_document_that_fails_is_set_aside_after_one_try_alone(
    home, documents, tmp_path, monkeypatch, where, error, says
):
    """And the others are found as if it were not there, whatever they share a batch with."""
    kind, tried = parts.DocRE if where == "features" else type(DocRE.load("atlop").tokenizer), []
    do = getattr(kind, where)

    def fails(self, given):
        titles = [d.title for d in (given.documents if where == "features" else given)]
        tried.append(titles)
        if "document 1" in titles:
            raise error
        return do(self, given)

    monkeypatch.setattr(kind, where, fails)
    source = single(tmp_path / "in" / "x.jsonl", documents[:6])
    counts = extract(home / "run" / "model", str(source), tmp_path / "out", part_size=6, batch_size=3)
    assert (counts["documents"], counts["rejected"], tried.count(["document 1"])) == (5, 1, 1)
    told = json.loads((tmp_path / "out" / "_rejected" / "x.jsonl-00000.jsonl").read_text())
    assert told["row"] == 1 and told["title"] == "document 1" and says in told["reason"]
    monkeypatch.undo()
    others = single(tmp_path / "in" / "y.jsonl", documents[:1] + documents[2:6])
    extract(home / "run" / "model", str(others), tmp_path / "other", part_size=6, batch_size=3)
    assert [r | {"input": "", "row": 0} for r in rows(tmp_path / "out")] == [
        r | {"input": "", "row": 0} for r in rows(tmp_path / "other")
    ]


def test_a_torn_archive_gives_what_it_has(home, documents, tmp_path):
    random.seed(0)
    packed = gzip.compress(lines(documents))
    (tmp_path / "in.jsonl.gz").write_bytes(packed[: len(packed) * 2 // 3])
    counts = extract(home / "run" / "model", str(tmp_path / "in.jsonl.gz"), tmp_path / "out", part_size=100)
    assert counts["rejected"] == 1 and 5 < counts["documents"] < COUNT
    row = json.loads((tmp_path / "out" / "_rejected" / "in.jsonl.gz-00000.jsonl").read_text())
    assert row["row"] == counts["documents"] and "truncated or damaged" in row["reason"] and row["title"] is None


def test_a_damaged_parquet_gives_what_it_has(home, documents, tmp_path):
    path = tmp_path / "in.parquet"
    to_parquet([replace(d, triples=()) for d in documents if d.entities], path)
    data = bytearray(path.read_bytes())
    group = pq.ParquetFile(path).metadata.row_group(5)
    for c in range(group.num_columns):
        column = group.column(c)
        begin = column.dictionary_page_offset or column.data_page_offset
        data[begin : begin + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    counts = extract(home / "run" / "model", str(path), tmp_path / "out")
    assert (counts["documents"], counts["rejected"]) == (COUNT - 1 - 2, 1)
    row = json.loads((tmp_path / "out" / "_rejected" / "in.parquet-00000.jsonl").read_text())
    assert row["row"] == 10 and re.match("row group 5 is damaged from here on", row["reason"])
    assert {10, 11}.isdisjoint(found := {row["row"] for row in rows(tmp_path / "out")}) and max(found) > 12


def test_streams_are_read_row_by_row(home, documents, tmp_path):
    """The first row is there when a part of the file has been read, not the whole of it."""
    for path in (home / "in" / "a.jsonl", home / "in" / "b.jsonl.gz", home / "in" / "deep" / "c.parquet"):
        found = list(stream(path))
        assert [json.loads(row.data)["title"] for row in found] == [d.title for d in read(path)]
        assert [row.number for row in found] == list(range(len(found)))
        assert found[-1].position == path.stat().st_size
        assert [row.position for row in found] == sorted(row.position for row in found)
    long = single(tmp_path / "long.jsonl", documents * 30)
    assert 0 < next(stream(long)).position < 10_000 < long.stat().st_size / 10


# Stopped and continued


class Killed(BaseException):
    """As SIGKILL: nothing that cleans up after faults sees it."""


def test_stopped_at_every_write(home, documents, tmp_path, monkeypatch):
    """Ended before each call in turn that has to do with writing; what is there then is continued, never torn."""
    bad = single(tmp_path / "in.jsonl", [documents[0], b"{\n", documents[1], b"{\n"])
    extract(home / "run" / "model", str(bad), tmp_path / "plain", part_size=2)
    goal = contents(tmp_path / "plain")
    assert {"_rejected/in.jsonl-00000.jsonl", "triples-in.jsonl-00001.parquet"} <= goal.keys()
    left, loaded = [0], parts.loaded_model(home / "run" / "model", ())

    def stopping(call):
        def counted(*args):
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return call(*args)

        return counted

    monkeypatch.setattr(engines.os, "fsync", stopping(os.fsync))
    monkeypatch.setattr(engines.os, "replace", stopping(os.replace))
    monkeypatch.setattr(parts.DocRE, "load", lambda folder: loaded)
    for k in range(1, 100):
        out, left[0] = tmp_path / f"out {k}", k
        try:
            extract(home / "run" / "model", str(bad), out, part_size=2)
            break
        except Killed:
            for path in out.glob("triples-*"):
                assert content(path) == goal[path.name]
            extract(home / "run" / "model", str(bad), out, part_size=2)
            assert contents(out) == goal
    assert k == 1 + 6 * 3  # six files, of each its data, its name, and the name's safety


@pytest.mark.parametrize(("workers", "kills"), [(1, 14), (2, 6)])
def test_killed_and_continued(workers, kills, home, whole, tmp_path, processes):
    """SIGKILL a little after another part is there, and in turn at any time after the start. No worker is left.

    Where a run ends before it was killed often enough, another one is begun.
    """
    draw, done = random.Random(workers), 0
    while done < kills:
        out, ended = tmp_path / f"out {done}", False
        while not ended:
            before, until = count(out), time.monotonic() + patience(300)
            given = (home / "run" / "model", f"{home}/in/**", out)
            target = extract if workers == 1 or done == 0 else extract_with_forks  # one with processes as they are
            process = processes(target=target, args=given, kwargs=SMALL | {"workers": workers, "threads": 1})
            process.start()
            while done % 2 == 0 and count(out) == before and process.is_alive():
                assert time.monotonic() < until
                time.sleep(0.005)
            process.join(draw.random() * (0.02 if done % 2 == 0 else 0.3))
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            helpers = [int(pid) for pid in children.read_text().split()] if children.exists() else []
            process.kill()
            process.join()
            ended = process.exitcode == 0
            done += not ended
            for path in out.glob("triples-*"):
                assert content(path) == content(whole / path.name)
            until = time.monotonic() + patience(60)
            while any(map(running, helpers)):
                assert time.monotonic() < until
                time.sleep(0.01)
        assert contents(out) == contents(whole)


def count(out: Path) -> int:
    return len(list(out.glob("triples-*")))


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def another_score(path: Path) -> bytes:
    """The file with one bit changed that only its checksums tell."""
    data, table = path.read_bytes(), pq.read_table(path)
    column = pq.ParquetFile(path).metadata.row_group(0).column(SCHEMA.names.index("score"))
    begin = column.dictionary_page_offset
    for at in range(begin, begin + column.total_compressed_size):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            found = pq.read_table(BytesIO(changed))
        except (OSError, pa.ArrowException):
            continue
        if not found.equals(table):
            return changed
    pytest.fail("no such bit")


def test_a_torn_part_is_made_anew(home, whole, tmp_path):
    """By something else than a run: cut short, with a byte changed, emptied, or without its metadata."""
    again(home, out := tmp_path / "out")
    torn = sorted(out.glob("triples-a*"))
    data = torn[0].read_bytes()
    torn[0].write_bytes(data[: len(data) // 2])
    torn[1].write_bytes(another_score(torn[1]))
    torn[2].write_bytes(b"")
    pq.write_table(pq.read_table(torn[3]).replace_schema_metadata(None), torn[3])
    (out / ".triples-a.jsonl-00000.parquet.1.tmp").write_bytes(b"half")
    assert all(p.read_bytes() != (whole / p.name).read_bytes() for p in torn)
    again(home, out)
    assert contents(out) == contents(whole)


def test_a_part_that_is_there_is_not_made_again(home, whole, tmp_path, monkeypatch):
    again(home, out := tmp_path / "out")
    lost = out / "triples-b.jsonl.gz-00001.parquet"
    lost.unlink()
    worked = []
    monkeypatch.setattr(parts, "work", lambda job, part, do=parts.work: worked.append(part.name) or do(job, part))
    again(home, out)
    assert worked == [lost.name] and contents(out) == contents(whole)


# Several processes


def test_two_workers_write_what_one_writes(home, whole, tmp_path):
    again(home, tmp_path / "out", workers=2)
    assert contents(tmp_path / "out") == contents(whole)


def test_workers_take_turns_at_the_gpus(monkeypatch):
    taken, begun = [], engines.get_context("spawn").Value("i", 0)
    monkeypatch.setattr(engines.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(engines.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(engines.torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(engines.signal, "signal", lambda *_: None)
    monkeypatch.setattr(engines.threading, "Thread", lambda **_: SimpleNamespace(start=lambda: None))
    for _ in range(3):
        engines._begin(torch.get_num_threads(), begun)
    assert taken == [0, 1, 0]


def test_ray_writes_what_one_worker_writes(home, whole, tmp_path):
    pytest.importorskip("ray.data", reason="no Ray here: pip install -e '.[ray]'")
    again(home, out := tmp_path / "out", workers=2, engine="ray")
    assert contents(out) == contents(whole)
    for lost in list(out.glob("triples-*"))[::3]:
        lost.unlink()
    again(home, out, workers=2, engine="ray")
    assert contents(out) == contents(whole)


def test_bf16_is_another_calculation(home, whole, tmp_path, monkeypatch):
    """Whoever asks for it gets it, close to fp32; no folder holds parts of both."""
    monkeypatch.setattr("docre_lite.support.machine.bf16_in_hardware", lambda device: True)
    again(home, tmp_path / "out", precision="bf16")
    half, full = (rows(out) for out in (tmp_path / "out", whole))
    assert [row["score"] for row in half] != [row["score"] for row in full]
    facts = [{(r["title"], r["head"], r["relation"], r["tail"]) for r in found} for found in (half, full)]
    assert len(facts[0] & facts[1]) > 0.8 * len(facts[0] | facts[1])
    with pytest.raises(ValueError, match="precision"):
        again(home, tmp_path / "out")
    with pytest.raises(ValueError, match="precision is one of 'fp32', 'bf16' or 'fp16'"):
        again(home, tmp_path / "half", precision="fp8")
    assert not (tmp_path / "half").exists()


def test_ray_that_is_not_there_is_told(home, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'docre_lite\[ray\]'"):
        again(home, tmp_path / "out", engine="ray")
    assert not (tmp_path / "out").exists()


def test_a_worker_that_dies_is_told_in_a_line(home, tmp_path, monkeypatch, capsys):
    def dies(job, part):
        raise BrokenProcessPool("a process in the pool was terminated")

    monkeypatch.setattr(engines, "ProcessPoolExecutor", _Here)
    monkeypatch.setattr(parts, "work", dies)
    fails(capsys, home, tmp_path / "out", "--workers=2", says="a worker was killed.*continues where it")


# Faults: exit code 2, one line


def fails(capsys, home: Path, out: Path, *more, says: str, run="run", source=None) -> None:
    capsys.readouterr()
    call = ["extract", "--run", str(home / run), "--input", str(source or f"{home}/in/**"), "--out", str(out)]
    assert main([*call, "--part-size=3", "--batch-size=2", *map(str, more)]) == 2
    shown = capsys.readouterr()
    found = [line for line in shown.err.splitlines() if line.strip() and "B/s" not in line and "it/s" not in line]
    assert len(found) == 1 and found[0].startswith("docre-lite: "), shown.err
    assert re.search(says, found[0]), found[0]
    assert shown.out == ""


def test_faulty_arguments(home, documents, tmp_path, capsys):
    out = tmp_path / "out"
    fails(capsys, home, out, source=tmp_path / "*.jsonl", says=r"\*.jsonl: no file matches")
    fails(
        capsys, home, out, run="nowhere", says="nowhere: no model.json here; `docre-lite train` writes it into model/"
    )
    fails(capsys, home, out, "--set=nope=1", says="atlop has no setting 'nope'")
    fails(capsys, home, out, source=single(tmp_path / "list.json", [b'[\n{"title"']), says="list.json: a JSON list")
    fails(capsys, home, out, source=single(tmp_path / "list.json", [b' [{"title": ']), says="list.json: a JSON list")
    fails(
        capsys, home, out, source=single(tmp_path / "x.parquet", [b"PAR1 no more"]), says="x.parquet: damaged parquet"
    )
    single(tmp_path / "p" / "a" / "b.jsonl", documents[:1])
    single(tmp_path / "p" / "a-b.jsonl", documents[:1])
    fails(
        capsys,
        home,
        out,
        source=f"{tmp_path}/p/**",
        says="a-b.jsonl: its parts would have the same names as those of .*a/b.jsonl",
    )
    assert not out.exists()
    fails(capsys, home, tmp_path / "p", source=tmp_path / "p" / "a-b.jsonl", says="lies in the --out folder")
    fails(capsys, home, tmp_path / "list.json", says="list.json: is a file, but a folder is needed")
    fails(capsys, home, out, source=home / "in", says="in: is a folder; give a pattern for the files in it")
    for k, text in enumerate(
        ("[Ada|PER|1] met [Bo|PER|2].\n", "1|t|A title.\n1|a|A text.\n", '\n{\n "title": "x"\n}\n')
    ):
        (tmp_path / f"{k}.txt").write_text(text)
        fails(capsys, home, out, source=tmp_path / f"{k}.txt", says=f"{k}.txt: not JSON with one document per line")
    fails(capsys, home, tmp_path / "list.json" / "out", says="list.json/out: cannot be written")


def test_a_pattern_over_the_output_reads_inputs_alone(home, tmp_path, capsys):
    """The same command again, with a wildcard that reaches what it wrote, and what it set aside."""
    (tmp_path / "in").mkdir()
    bad = (home / "in" / "a.jsonl").read_bytes() + b"{}\n"
    (tmp_path / "in" / "a.jsonl").write_bytes(bad)
    out = tmp_path / "in" / "triples"
    first = extract(home / "run" / "model", f"{tmp_path}/in/**", out, **SMALL)
    assert first["inputs"] == first["rejected"] == 1 and (out / "_rejected").is_dir()
    before = contents(out)
    for pattern in ("in/**", "in/**/*.jsonl"):
        assert extract(home / "run" / "model", f"{tmp_path}/{pattern}", out, **SMALL) == first
        assert contents(out) == before
    fails(capsys, home, out, source=next((out / "_rejected").iterdir()), says="lies in the --out folder")
    fails(capsys, home, out, source=out / "*.parquet", says="lies in the --out folder")


def test_a_torn_first_line_is_set_aside(home, documents, tmp_path):
    """It does not make the file another format's."""
    (tmp_path / "a.jsonl").write_bytes(b'0, 1]], "labels": []}\n' + lines(documents[:4]))
    counts = extract(home / "run" / "model", str(tmp_path / "a.jsonl"), tmp_path / "out", **SMALL)
    assert counts["documents"] == 4 and counts["rejected"] == 1


def test_a_model_that_draws_goes_on_with_the_same_batches(home, documents, tmp_path):
    """What it draws depends on what it reads at a time."""
    model = tiny("dre_mir", documents)
    model.save(tmp_path / "model")
    out, given = tmp_path / "out", {"part_size": 3, "options": {"test_mask_rate": 0.5}}
    extract(tmp_path / "model", f"{home}/in/a.jsonl", out, batch_size=2, **given)
    with pytest.raises(DataError, match="batch_size"):
        extract(tmp_path / "model", f"{home}/in/a.jsonl", out, batch_size=3, **given)
    steady = extract(tmp_path / "model", f"{home}/in/a.jsonl", tmp_path / "steady", batch_size=2, part_size=3)
    assert extract(tmp_path / "model", f"{home}/in/a.jsonl", tmp_path / "steady", batch_size=3, part_size=3) == steady


def test_the_folder_of_a_run_is_no_model(home):
    with pytest.raises(ValueError, match=f"run: no model.json here; give {home}/run/model$"):
        DocRE.load(home / "run")


def test_another_run_is_refused(home, whole, documents, tmp_path, capsys):
    again(home, out := tmp_path / "out")
    (out / "triples-a.jsonl-00002.parquet").unlink()
    before = contents(out)
    other = tiny("atlop", documents, width=16)
    other.save(home / "other" / "model")
    fails(capsys, home, out, run="other", says="triples of a run with another model; repeat the earlier arguments")
    fails(capsys, home, out, "--evidence=0.5", "--seed=3", says="another evidence, seed;")
    fails(capsys, home, out, "--part-size=4", says="another part_size;")
    fails(capsys, home, out, source=f"{home}/in/*", says=r"another input \(deep/c.parquet\);")
    same = [(tmp_path / "in" / p.relative_to(home / "in"), p) for p in (home / "in").rglob("*") if p.is_file()]
    for copy, path in same:
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (tmp_path / "in" / "a.jsonl").write_bytes(lines(documents[:10]).replace(b"document 9", b"document X"))
    fails(capsys, home, out, source=f"{tmp_path}/in/**", says=r"another input \(a.jsonl\);")
    assert contents(out) == before
    (tmp_path / "in" / "a.jsonl").write_bytes(lines(documents[:10]))  # equal data elsewhere is no other input
    extract(home / "run" / "model", f"{tmp_path}/in/**", out, part_size=3, batch_size=2)
    assert contents(out) == contents(whole)


def test_two_runs_into_one_folder(home, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fails(capsys, home, tmp_path / "out", says="another run is at work here")
    assert again(home, tmp_path / "out")["documents"] == COUNT


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_loses_nothing(workers, home, whole, tmp_path, capsys, monkeypatch):
    original, left = os.fsync, [9]

    def full(fd):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(fd)

    out = tmp_path / "out"
    monkeypatch.setattr(engines.os, "fsync", full)
    if workers == 2:  # they do not see the patch: this one stands where their work ends
        monkeypatch.setattr(engines, "ProcessPoolExecutor", _Here)
    fails(capsys, home, out, "--workers", workers, says=r"cannot be written \(No space left on device\).*same command")
    monkeypatch.undo()
    there = list(out.glob("triples-*"))
    assert 2 < len(there) < 9 and not list(out.rglob("*.tmp"))
    again(home, out)
    assert contents(out) == contents(whole)


class _Here:
    """An executor that works at once, in this process."""

    def __init__(self, *args):
        pass

    __enter__ = lambda self: self  # noqa: E731
    __exit__ = lambda self, *error: None  # noqa: E731

    def submit(self, work, *args):
        future = Future()
        try:
            future.set_result(work(*args))
        except Exception as error:
            future.set_exception(error)
        return future


def test_a_fault_of_the_model_names_its_rows(home, tmp_path, monkeypatch):
    def fault(*args, **kwargs):
        raise RuntimeError("shapes")

    monkeypatch.setattr(parts, "predict_encoded", fault)
    with pytest.raises(RuntimeError, match="shapes") as caught:
        again(home, tmp_path / "out")
    assert caught.value.__notes__ == [f"{home}/in/a.jsonl: in rows 0 to 2"]


def test_an_interrupt_is_no_fault(home, whole, tmp_path, capsys, monkeypatch):
    def interrupted(job, part, do=parts.work):
        if part.number == 2:
            raise KeyboardInterrupt
        return do(job, part)

    monkeypatch.setattr(parts, "work", interrupted)
    call = ["extract", "--run", str(home / "run"), "--input", f"{home}/in/**", "--out", str(tmp_path / "out")]
    assert main([*call, "--part-size=3", "--batch-size=2"]) == 130
    monkeypatch.undo()
    assert len(list((tmp_path / "out").glob("triples-*"))) == 2
    assert not json.loads((tmp_path / "out" / "_manifest.json").read_text())["complete"]
    again(home, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(whole)


def test_a_disk_that_fails_while_reading_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        next(stream(tmp_path / "none.jsonl"))
