"""Fetching data, against a server on this machine: resume, checksums, no connection, conversions."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import re
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from docre_lite.formats import convert, download, hub, readers, stream
from docre_lite.formats.faults import Faults
from docre_lite.formats.hub import Dataset, Source
from docre_lite.support import DataError
from docre_lite.support.store import alone
from docre_lite.types import Entity, Mention, Triple

REVISION = "0123456789abcdef0123456789abcdef01234567"


def docred(title: str) -> dict:
    return {"title": title, "sents": [["Ada", "left", "."]], "vertexSet": [], "labels": []}


class Server(ThreadingHTTPServer):
    """Serves `files`, with ranges, and writes down what was asked. It can break off after `limit` bytes."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.limit: int | None = None
        self.ranges = True
        self.chunked = False  # no length is sent

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(send=False)

    def do_GET(self):
        self.answer(send=True)

    def answer(self, send: bool):
        wanted = self.headers.get("Range")
        self.server.asked.append((self.command, self.path, wanted))
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.split("=")[1].split("-")[0]) if wanted and self.server.ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if self.server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.end_headers()
        sent = content[start:][: self.server.limit]
        if send and self.server.chunked:
            for k in range(0, len(sent), 700):
                self.wfile.write(f"{len(sent[k : k + 700]):x}\r\n".encode() + sent[k : k + 700] + b"\r\n")
            self.wfile.write(b"" if self.server.limit else b"0\r\n\r\n")
        elif send:
            self.wfile.write(sent)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)  # `make test` sets it; this server stands on the same machine
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def offer(server, monkeypatch):
    """Offer files as a data set named "toy"."""

    def offer(files: dict[str, bytes], counts=None, on_hub=False, sha256=None, make=None):
        sources = []
        for name, content in files.items():
            path = f"/datasets/team/toy/resolve/{REVISION}/data/{name}" if on_hub else f"/{name}"
            server.files[path] = content
            place = {"repository": "team/toy", "file": f"data/{name}", "revision": REVISION} if on_hub else {}
            url = None if on_hub else server.address + path
            sources.append(Source(name, "1 kB", url=url, sha256=sha256, **place))
        toy = Dataset("http://page", "none", tuple(sources), counts or {}, make, notes=("a toy",))
        monkeypatch.setitem(hub.SOURCES, "toy", toy)

    return offer


def fetch(folder, lines=None):
    return hub.fetch("toy", folder, progress=False, say=(lines if lines is not None else []).append)


@pytest.mark.parametrize("on_hub", [True, False])
def test_fetch_downloads_checks_and_counts(server, offer, tmp_path, on_hub):
    content = json.dumps([docred("A"), docred("B")]).encode()
    packed = gzip.compress(json.dumps({"P1": "one"}).encode())
    offer({"dev.json": content, "rel_info.json.gz": packed}, {"dev.json": (2, 0)}, on_hub)
    lines: list[str] = []
    folder = tmp_path / "new" / "toy"
    paths = fetch(folder, lines)
    assert paths == {name: folder / name for name in ("dev.json", "rel_info.json.gz")}
    assert [d.title for d in readers.read(paths["dev.json"])] == ["A", "B"]
    assert readers.read_relations(paths["rel_info.json.gz"]).names == ("NA", "P1")
    assert json.loads((folder / download.LOCK).read_text())["dev.json"] == hashlib.sha256(content).hexdigest()
    text = "\n".join(lines)
    assert "no checksum was known" in text
    assert "2 documents, 0 triples" in text and "note: a toy" in text
    assert {p.name for p in folder.iterdir()} - {".lock"} == {"dev.json", "rel_info.json.gz", download.LOCK}
    # the second time nothing is asked for and nothing is recorded
    server.asked.clear()
    lines.clear()
    assert fetch(folder, lines) == paths
    assert not server.asked and not any("first download" in line for line in lines)


@pytest.mark.parametrize("on_hub", [True, False])
def test_an_interrupted_download_resumes(server, offer, tmp_path, on_hub):
    content = json.dumps([docred("A" * 5000)]).encode()
    offer({"dev.json": content}, {"dev.json": (1, 0)}, on_hub)
    server.limit = 1000
    with pytest.raises(DataError, match=f"broke after 1000 of {len(content)} bytes.*run this again to resume"):
        fetch(tmp_path)
    assert (tmp_path / "dev.json.part").read_bytes() == content[:1000] and not (tmp_path / "dev.json").exists()
    server.limit = None
    fetch(tmp_path)
    assert [wanted for _, _, wanted in server.asked] == [None, "bytes=1000-"]
    assert (tmp_path / "dev.json").read_bytes() == content and not (tmp_path / "dev.json.part").exists()


def test_a_broken_download_without_a_length_is_seen(server, offer, tmp_path):
    content = json.dumps([docred("A" * 5000)]).encode()
    offer({"dev.json": content}, {"dev.json": (1, 0)})
    server.chunked, server.limit = True, 1000
    with pytest.raises(DataError, match="broke after 1000 bytes.*run this again to resume"):
        fetch(tmp_path)
    assert not (tmp_path / "dev.json").exists() and not (tmp_path / download.LOCK).exists()
    server.limit = None
    fetch(tmp_path)
    assert (tmp_path / "dev.json").read_bytes() == content


def test_a_server_without_ranges_sends_the_whole_again(server, offer, tmp_path):
    offer({"dev.json": json.dumps([docred("A")]).encode()}, {"dev.json": (1, 0)})
    (tmp_path / "dev.json.part").write_bytes(b"old rubbish")
    server.ranges = False
    fetch(tmp_path)


def test_a_part_longer_than_the_file_is_thrown_away(server, offer, tmp_path):
    content = json.dumps([docred("A")]).encode()
    offer({"dev.json": content}, {"dev.json": (1, 0)})
    (tmp_path / "dev.json.part").write_bytes(b"x" * (len(content) + 1))
    fetch(tmp_path)
    assert (tmp_path / "dev.json").read_bytes() == content


def test_a_changed_file_is_seen(offer, tmp_path):
    offer({"dev.json": json.dumps([docred("A")]).encode()}, {"dev.json": (1, 0)})
    fetch(tmp_path)
    (tmp_path / "dev.json").write_text(json.dumps([docred("B")]))
    with pytest.raises(DataError, match=r"differs from the one recorded in checksums.json.*delete it and fetch again"):
        fetch(tmp_path)
    (tmp_path / "dev.json").unlink()
    fetch(tmp_path)
    for content, says in (("{", "checksums.json: line 1"), ("[]", "not a map of file names")):
        (tmp_path / download.LOCK).write_text(content)
        with pytest.raises(DataError, match=says):
            fetch(tmp_path)


def test_a_known_checksum_is_checked_and_not_recorded(offer, tmp_path):
    content = json.dumps([docred("A")]).encode()
    offer({"dev.json": content}, {"dev.json": (1, 0)}, sha256=hashlib.sha256(content).hexdigest())
    fetch(tmp_path)
    assert not (tmp_path / download.LOCK).exists()
    offer({"dev.json": content}, {"dev.json": (1, 0)}, sha256="0" * 64)
    with pytest.raises(DataError, match="differs from the known one, 000000000000"):
        fetch(tmp_path)


@pytest.mark.parametrize("counts", [(2, 0), (1, 5)])
def test_wrong_counts_are_seen(offer, tmp_path, counts):
    offer({"dev.json": json.dumps([docred("A")]).encode()}, {"dev.json": counts})
    with pytest.raises(DataError, match=f"1 documents and 0 triples, but {counts[0]} and {counts[1]} were expected"):
        fetch(tmp_path)


@pytest.mark.parametrize("on_hub", [True, False])
def test_without_connection_one_line_says_what_to_put_where(server, offer, tmp_path, monkeypatch, on_hub):
    content = json.dumps([docred("A")]).encode()
    offer({"dev.json": content}, {"dev.json": (1, 0)}, on_hub)
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError) as caught:
        fetch(tmp_path)
    message = str(caught.value)
    address = hub.SOURCES["toy"].sources[0].address
    assert message.startswith(f"{tmp_path / 'dev.json'}: could not be downloaded") and "\n" not in message
    assert f"fetch {address} (1 kB) by hand and put it there under the name dev.json" in message
    # and that is all that is needed
    (tmp_path / "dev.json").write_bytes(content)
    assert fetch(tmp_path) == {"dev.json": tmp_path / "dev.json"}


def test_the_environment_can_forbid_the_network(server, offer, tmp_path, monkeypatch):
    offer({"dev.json": b"[]"})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="HF_HUB_OFFLINE is set.*by hand"):
        fetch(tmp_path)
    assert not server.asked


def test_a_missing_file_on_the_server(server, offer, tmp_path):
    offer({"dev.json": b"[]"})
    server.files.clear()
    with pytest.raises(DataError, match="404"):
        fetch(tmp_path)


def test_unknown_names_and_bad_folders(tmp_path):
    with pytest.raises(DataError, match="no data set 'docreed' to fetch; have docred, "):
        hub.fetch("docreed", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot create this folder"):
        hub.fetch("cdr", tmp_path / "file")


def test_the_table_pins_every_file(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    for name, dataset in hub.SOURCES.items():
        for source in dataset.sources:
            assert (source.repository is None) != (source.url is None), (name, source.name)
            if source.repository:
                assert re.fullmatch("[0-9a-f]{40}", source.revision), (name, source.name)
                assert source.address.startswith("https://huggingface.co/datasets/" + source.repository)
            assert source.sha256 is None or re.fullmatch("[0-9a-f]{64}", source.sha256)


PAGE = b"<!DOCTYPE html>\n<html><title>Log in</title></html>"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["rel_info.json.gz", "dev.json", "train.json.gz", "x.parquet", "x.zip", "train_docs"])
def test_a_page_in_place_of_a_file_is_refused(server, offer, tmp_path, name, packed):
    """Whatever the file is for; its checksum is not recorded, and a server that sends the file is asked again."""
    good = json.dumps([docred("A")]).encode()
    offer(
        {"dev.json": good, name: gzip.compress(PAGE) if packed else PAGE},
        {} if name == "dev.json" else {"dev.json": (1, 0)},
    )
    with pytest.raises(DataError, match=f"{name}: .*delete it and fetch again"):
        fetch(tmp_path)
    assert not (tmp_path / name).exists() and not (tmp_path / download.LOCK).exists()
    (tmp_path / name).write_bytes(PAGE)  # put there by hand: it is refused, and stays
    with pytest.raises(DataError, match=name):
        fetch(tmp_path)
    assert (tmp_path / name).read_bytes() == PAGE


@pytest.mark.parametrize(
    "content", [b"[1, 2]", b'{"P1": {}}', b"{}", b'{"error": "log in"}', b'{"P1": "one"', b"[" * 5000 + b"]" * 5000]
)
def test_a_relation_map_that_is_none_is_refused(offer, tmp_path, content):
    offer({"rel_info.json.gz": gzip.compress(content)})
    with pytest.raises(DataError, match="rel_info.json.gz"):
        fetch(tmp_path)
    assert not (tmp_path / download.LOCK).exists()


def test_the_checksum_of_another_version_is_not_recorded(server, offer, tmp_path):
    """Or the right file would be refused for ever."""
    offer({"dev.json": json.dumps([docred("A"), docred("B")]).encode()}, {"dev.json": (1, 0)})
    with pytest.raises(DataError, match="2 documents and 0 triples, but 1"):
        fetch(tmp_path)
    (tmp_path / "dev.json").unlink()
    server.files["/dev.json"] = json.dumps([docred("A")]).encode()
    fetch(tmp_path)


def test_two_fetches_into_one_folder(offer, tmp_path):
    offer({"dev.json": json.dumps([docred("A")]).encode()}, {"dev.json": (1, 0)})
    with alone(tmp_path), pytest.raises(DataError, match="another run is at work here; wait for it"):
        fetch(tmp_path)
    fetch(tmp_path)


def test_planted_links_are_not_followed(offer, tmp_path):
    offer({"dev.json": json.dumps([docred("A")]).encode()}, {"dev.json": (1, 0)})
    mine, folder = tmp_path / "mine", tmp_path / "toy"
    mine.write_text("mine")
    folder.mkdir()
    (folder / ".lock").symlink_to(mine)
    fetch(folder)
    (folder / "dev.json").unlink()
    (folder / "dev.json.part").symlink_to(mine)
    with pytest.raises(DataError, match="dev.json: could not be downloaded .*link"):
        fetch(folder)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("known", [{"dev.json": 7}, {"dev.json": None}, {"other": ["a"]}, {"dev.json": {"a": 1}}])
def test_checksums_of_wrong_types_are_told(offer, tmp_path, known):
    offer({"dev.json": json.dumps([docred("A")]).encode()}, {"dev.json": (1, 0)})
    (tmp_path / download.LOCK).write_text(json.dumps(known))
    with pytest.raises(DataError, match="checksums.json: not a map of file names to checksums; delete it"):
        fetch(tmp_path)


def test_an_archive_unpacks_to_a_limit_and_no_further(tmp_path):
    bomb = bytes(5 << 20)
    for packed, unpack in (
        (gzip.compress(bomb), lambda f, limit: stream.gunzip(f, "x", limit)),
        (zipped({"a": bomb.decode()}), lambda f, limit: stream.unzip(f, "a".__eq__, "x", limit)),
    ):
        assert unpack(io.BytesIO(packed), 5 << 20) == bomb
        with pytest.raises(DataError, match="x: unpacks to more than the limit of 2 MiB"):
            unpack(io.BytesIO(packed), 2 << 20)


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_overwritten_anywhere_is_told_in_a_line(how):
    draw = random.Random(0)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        archive.writestr("a", bytes(draw.choices(b"abcdef", k=3000)))
    whole, told = buffer.getvalue(), 0
    for _ in range(100):
        bad, at = bytearray(whole), draw.randrange(len(whole))
        bad[at : at + 20] = draw.randbytes(len(bad[at : at + 20]))
        try:
            stream.unzip(io.BytesIO(bytes(bad)), "a".__eq__, "x.zip")
        except DataError as error:
            told += 1
            assert str(error).startswith("x.zip: ") and "\n" not in str(error)
    assert told > 80


# --- conversions ----------------------------------------------------------------------------------------------------


def zipped(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def use(monkeypatch, name: str, counts: dict, content: dict[str, bytes], folder) -> None:
    """The real entry of the table with our counts, and its files as if downloaded."""
    fields = {f: getattr(hub.SOURCES[name], f) for f in Dataset.__dataclass_fields__}
    monkeypatch.setitem(hub.SOURCES, name, Dataset(**{**fields, "counts": counts}))
    for file, data in content.items():
        (folder / file).write_bytes(data)


def test_cdr_is_unpacked(monkeypatch, tmp_path):
    text = "1|t|Zorb and pain\n1|a|No.\n1\t0\t4\tZorb\tChemical\tC1\n1\t9\t13\tpain\tDisease\tD1\n1\tCID\tC1\tD1\n"
    names = list(hub.SOURCES["cdr"].counts)
    archive = zipped({f"CDR_Data/CDR.Corpus.v010516/{n}": text for n in names} | {"CDR_Data/readme": "x"})
    use(monkeypatch, "cdr", dict.fromkeys(names, (1, 1)), {"CDR_Data.zip": archive}, tmp_path)
    monkeypatch.setattr(hub, "CDR_DEVELOPMENT", hashlib.sha256(text.encode()).hexdigest())
    paths = hub.fetch("cdr", tmp_path, progress=False, say=[].append)
    assert [readers.read(p, pairs="cdr")[0].candidates for p in paths.values()] == [frozenset({(0, 1)})] * 3
    monkeypatch.setattr(hub, "CDR_DEVELOPMENT", "0" * 64)
    with pytest.raises(DataError, match="CDR_DevelopmentSet.PubTator.txt: checksum .* differs from the known one"):
        hub.fetch("cdr", tmp_path, progress=False, say=[].append)


def test_the_cdr_development_file_here_has_the_published_checksum(real_data):
    path = real_data / "cdr" / "CDR_DevelopmentSet.PubTator.txt"
    if not path.is_file():
        pytest.skip(f"no {path.name} in the folder of real data")
    hub.verify(path, hub.CDR_DEVELOPMENT)


@pytest.mark.parametrize(
    ("content", "says"), [(b"no zip", "not a zip archive"), (zipped({"x": "y"}), "contains no CDR_TrainingSet")]
)
def test_bad_archives(tmp_path, content, says):
    (tmp_path / "CDR_Data.zip").write_bytes(content)
    with pytest.raises(DataError, match=says):
        hub.fetch("cdr", tmp_path, progress=False, say=[].append)


ARTICLE = {
    "id": "DW_7",
    "content": "Mona Reyes rose \n\nReyes leads Farland Union of Farland. She won",
    "tags": ["all", "train"],
    "mentions": [
        {"begin": 18, "end": 23, "text": "Reyes", "concept": 2},
        {"begin": 30, "end": 43, "text": "Farland Union", "concept": 0},
        {"begin": 0, "end": 10, "text": "Mona Reyes", "concept": 2},
        {"begin": 47, "end": 54, "text": "Farland", "concept": 1},
    ],
    "concepts": [
        {"concept": 0, "text": "Farland Union", "tags": ["type::entity", "type::party", "type::organization"]},
        {"concept": 1, "text": "Farland", "link": "Farland", "tags": ["type::entity", "type::gpe0-x", "type::other"]},
        {"concept": 2, "text": "Mona Reyes", "link": None, "tags": ["topic::none", "type::person"]},
        {"concept": 3, "link": "Nearland", "tags": []},
    ],
    "relations": [
        {"s": 2, "p": "head_of", "o": 0},
        {"s": 2, "p": "head_of", "o": 0},
        {"s": 1, "p": "in0", "o": 3},
        {"s": 1, "p": "in0", "o": 1},
    ],
}


def columns(rows: list[dict]) -> dict:
    return {key: [row.get(key) for row in rows] for key in dict.fromkeys(k for row in rows for k in row)}


@pytest.mark.parametrize("as_columns", [True, False])
def test_dwie(as_columns):
    article = {key: columns(value) if as_columns and key in ("mentions", "concepts", "relations") else value
               for key, value in ARTICLE.items()}  # fmt: skip
    document, tags = convert.from_dwie(article, "x")
    assert tags == {"all", "train"}
    assert document.title == "DW_7"
    assert document.sentences == (
        ("Mona", "Reyes", "rose"),
        ("Reyes", "leads", "Farland", "Union", "of", "Farland", "."),
        ("She", "won"),
    )
    assert document.entities == (
        Entity((Mention("Mona Reyes", 0, 0, 2, "person"), Mention("Reyes", 1, 0, 1, "person"))),
        Entity((Mention("Farland Union", 1, 2, 4, "organization"),)),
        Entity((Mention("Farland", 1, 5, 6, "gpe0-x"),), id="Farland"),
    )
    assert document.triples == (Triple("DW_7", 0, "head_of", 1),)


def test_bad_dwie():
    wrong = {**ARTICLE, "mentions": [{"begin": 1, "end": 5, "text": "Mona", "concept": 2}]}
    with pytest.raises(DataError, match=r'x \("DW_7"\): field mentions: characters 1 to 5'):
        convert.from_dwie(wrong, "x")
    faults = Faults("x", lenient=True)
    assert convert.from_dwie(wrong, "x", faults)[0].entities == ()
    assert [len(dropped) for dropped in faults.dropped.values()] == [1]
    for key in ("id", "content", "tags", "mentions", "concepts", "relations"):
        with pytest.raises(DataError, match="not DWIE's format"):
            convert.from_dwie({k: v for k, v in ARTICLE.items() if k != key}, "x")
    with pytest.raises(DataError, match="where a DWIE object"):
        convert.from_dwie([], "x")


def test_dwie_from_the_hubs_parquet(monkeypatch, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{**ARTICLE, "id": f"DW_{i:02}", "tags": ["all", "test" if i >= 14 else "train"]} for i in range(16)]
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    counts = {"train.json": (12, 12), "dev.json": (2, 2), "test.json": (2, 2)}
    use(monkeypatch, "dwie", counts, {"dwie.parquet": buffer.getvalue()}, tmp_path)
    paths = hub.fetch("dwie", tmp_path, progress=False, say=[].append)
    titles = [[d.title for d in readers.read(p)] for p in paths.values()]
    assert titles[1:] == [["DW_00", "DW_07"], ["DW_14", "DW_15"]]
    assert sorted(sum(titles, [])) == [row["id"] for row in rows]


def renet(number: str, label: int) -> dict[str, str]:
    return {
        "abstracts.txt": f"{number}\nABC1 and gout\nABC1 gives gout.\n\n",
        "anns.txt": f"{number}\t0\t4\tABC1\tGene\t55\n{number}\t9\t13\tgout\tDisease\tD9\n\n",
        "labels.csv": f"pmid,geneId,diseaseId,label\n{number},55,D9,{label}\n",
    }


def test_gda(monkeypatch, tmp_path):
    training = [renet("71", 1), renet("72", 0)]
    merged = {name: training[0][name] + training[1][name] for name in training[0]}
    root = "alexwuhkucs-gda-extraction-fd4a7409365e"
    archive = zipped(
        {f"{root}/training_data/{name}": text for name, text in merged.items()}
        | {f"{root}/testing_data/{name}": text for name, text in renet("73", 1).items()}
    )
    counts = {"train.json.gz": (1, 0), "dev.json.gz": (1, 1), "test.json.gz": (1, 1)}
    use(monkeypatch, "gda", counts, {"gda.zip": archive, "train_gda_docs": b"72\n99\n"}, tmp_path)
    paths = hub.fetch("gda", tmp_path, progress=False, say=[].append)
    train, dev, test = (readers.read(path)[0] for path in paths.values())
    assert (train.title, dev.title, test.title) == ("72", "71", "73")
    assert train.candidates == {(0, 1)} and train.triples == ()
    assert dev.triples == (Triple("71", 0, "GDA", 1),)
    assert [e.id for e in dev.entities] == ["55", "D9"] and [e.type for e in dev.entities] == ["Gene", "Disease"]
    assert dev.sentences == (("ABC1", "and", "gout"), ("ABC1", "gives", "gout", "."))


def test_bad_gda(tmp_path):
    with pytest.raises(DataError, match="abstracts.txt: no such file"):
        convert.from_renet(tmp_path)
    for name, text in renet("71", 1).items():
        (tmp_path / name).write_text(text)
    assert len(convert.from_renet(tmp_path)) == 1
    (tmp_path / "labels.csv").write_text("72,55,D9,1\n")
    with pytest.raises(DataError, match="labels.csv: line 1: no abstract '72'"):
        convert.from_renet(tmp_path)
