"""Files of predictions: what CodaLab wants, what comes back, and faults named in one line."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import pytest
from hand import FOUR, GUESSES, HAND, SENTENCES

from docre_lite.evaluate import score
from docre_lite.formats.submission import read_predictions, write_submission
from docre_lite.support import DataError
from docre_lite.types import Document, Triple


def test_submission_holds_what_codalab_wants(tmp_path):
    path = tmp_path / "dev.json"
    guesses = [Triple("b", 1, "P17", 0, (2, 0), 0.5), Triple("a", 0, "P2", 1), Triple("a", 0, "P1", 1)]
    assert write_submission(guesses + [replace(guesses[0], evidence=(1,))], path) == path
    assert json.loads(path.read_text()) == [
        {"title": "a", "h_idx": 0, "t_idx": 1, "r": "P1", "evidence": [], "score": None},
        {"title": "a", "h_idx": 0, "t_idx": 1, "r": "P2", "evidence": [], "score": None},
        {"title": "b", "h_idx": 1, "t_idx": 0, "r": "P17", "evidence": [0, 2], "score": 0.5},
    ]
    assert not list(tmp_path.glob("*.zip"))
    archive = write_submission(guesses, path, zip=True)
    assert archive == tmp_path / "result.zip"
    with zipfile.ZipFile(archive) as file:
        assert file.namelist() == ["result.json"]
        assert json.loads(file.read("result.json")) == json.loads(path.read_text())


def test_submission_does_not_depend_on_order_or_clock(tmp_path, monkeypatch):
    written = []
    for guesses, day in ((GUESSES[:8], 1.0e9), (GUESSES[7::-1], 1.5e9)):
        monkeypatch.setattr("time.time", lambda day=day: day)
        archive = write_submission(guesses, tmp_path / "r.json", [HAND], zip=True)
        written.append((archive.read_bytes(), (tmp_path / "r.json").read_bytes()))
    assert written[0] == written[1]


def everything(triples) -> list:
    return sorted((t.title, t.head, t.relation, t.tail, t.evidence, t.score) for t in triples)


@pytest.mark.parametrize("zipped", [False, True])
def test_predictions_come_back(tmp_path, zipped):
    path = write_submission(
        [replace(t, score=i / 8) for i, t in enumerate(GUESSES[:8])], tmp_path / "r.json", zip=zipped
    )
    back = read_predictions(path, [HAND])
    assert everything(back) == everything(replace(t, score=i / 8) for i, t in enumerate(GUESSES[:8]))
    assert score(back, [HAND]) == score(GUESSES, [HAND])


def test_files_speak_the_data_files_numbers(tmp_path):
    document = Document("Hand", SENTENCES, FOUR, HAND.triples, order=(2, 0, 3, 1))
    path = write_submission([Triple("Hand", 0, "r", 3)], tmp_path / "r.json", [document])
    row = json.loads(path.read_text())[0]
    assert (row["h_idx"], row["t_idx"]) == (2, 1)
    assert read_predictions(path, [document]) == [Triple("Hand", 0, "r", 3)]
    with pytest.raises(ValueError, match="'Nowhere'"):
        write_submission([Triple("Nowhere", 0, "r", 1)], path, [document])


def test_repeated_predictions_are_read_once_and_said(tmp_path):
    path = tmp_path / "r.json"
    row = {"title": "Hand", "h_idx": 0, "t_idx": 1, "r": "r"}
    path.write_text(json.dumps([row | {"evidence": [1]}, row, row | {"r": "q"}]))
    with pytest.warns(UserWarning, match="1 of 3"):
        back = read_predictions(path, [HAND])
    # the first of the two keeps its evidence
    assert everything(back) == [("Hand", 0, "q", 1, (), None), ("Hand", 0, "r", 1, (1,), None)]


ROW = {"title": "Hand", "h_idx": 0, "t_idx": 1, "r": "r", "evidence": [0], "score": 1.5}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"title": "Nowhere"}, "'Nowhere'"),
        ({"title": 7}, "title 7"),
        ({"h_idx": 4}, '"Hand".*h_idx is 4.*4 entities'),
        ({"t_idx": -1}, "t_idx is -1"),
        ({"t_idx": 1.0}, "t_idx is 1.0"),
        ({"h_idx": True}, "h_idx is True"),
        ({"r": 17}, "r is 17"),
        ({"evidence": [3]}, "evidence is 3.*3 sentences"),
        ({"evidence": 2}, "evidence is 2"),
        ({"score": "high"}, "score is 'high'"),
    ],
)
def test_bad_rows_are_named(tmp_path, change, says):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([ROW, ROW | {"r": "q"} | change]))
    with pytest.raises(DataError, match=f"mine.json: prediction 1.*{says}") as caught:
        read_predictions(path, [HAND])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["title", "h_idx", "t_idx", "r"])
def test_missing_keys_are_named(tmp_path, key):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{k: v for k, v in ROW.items() if k != key}]))
    with pytest.raises(DataError, match=f"prediction 0 lacks .*{key}"):
        read_predictions(path, [HAND])


@pytest.mark.parametrize("content", [b"[", b"\xff\xfe\x00", b'{"title": "Hand"}', b"[3]", b""])
def test_files_that_are_no_submission(tmp_path, content):
    path = tmp_path / "mine.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="mine.json"):
        read_predictions(path, [HAND])


def test_relations_that_no_gold_triple_has_are_counted(tmp_path):
    relation = HAND.triples[0].relation
    guesses = [Triple(HAND.title, 0, relation, 1), Triple(HAND.title, 0, "Pmistyped", 1)]
    path = write_submission(guesses, tmp_path / "r.json", [HAND])
    with pytest.warns(UserWarning, match="1 predictions have relations that no gold triple has .'Pmistyped'."):
        assert len(read_predictions(path, [HAND])) == 2


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused(tmp_path, score):
    with pytest.raises(ValueError, match=f"its score is {score}; give a finite number"):
        write_submission([Triple(HAND.title, 0, "r", 1, score=score)], tmp_path / "r.json", [HAND])


@pytest.mark.parametrize("fault", ["flipped", "cut"])
def test_a_damaged_zip_is_named(tmp_path, fault):
    path = write_submission(GUESSES[:8], tmp_path / "r.json", zip=True)
    content = bytearray(path.read_bytes())
    if fault == "flipped":
        content[50] ^= 255  # among the packed bytes
    path.write_bytes(content if fault == "flipped" else content[:-30])
    with pytest.raises(DataError, match="result.zip: damaged or locked zip .*write it again"):
        read_predictions(path, [HAND])


def test_lists_in_lists_without_end(tmp_path):
    (path := tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="deep.json: not JSON"):
        read_predictions(path, [HAND])


def test_zip_without_result_json(tmp_path):
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("predictions.json", "[]")
    with pytest.raises(DataError, match="mine.zip.*predictions.json.*result.json"):
        read_predictions(path, [HAND])


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="none.json: no such file"):
        read_predictions(tmp_path / "none.json", [HAND])
