"""The models that come with the package: they load by name, and give the scores that their cards record."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from conftest import ROOT

import docre_lite
from docre_lite.corpus import generate, running_example
from docre_lite.evaluate import score
from docre_lite.model import DocRE, _papers, located, trained
from docre_lite.predict import margin_of, predict

PAPERS = sorted(_papers())


def test_there_is_one_for_every_paper():
    assert sorted(trained()) == PAPERS
    size = sum(path.stat().st_size for folder in trained().values() for path in folder.glob("*.safetensors"))
    assert size < 4e6
    assert all(path.stat().st_size < 2e6 for folder in trained().values() for path in folder.iterdir())


@pytest.mark.parametrize("paper", PAPERS)
def test_the_card_records_what_the_file_gives(paper):
    card = json.loads((trained()[paper] / "card.json").read_text(encoding="utf-8"))
    documents = generate("test", card["documents"]["check"])
    found = score(predict(docre_lite.load(paper), documents), documents)
    # on another processor a margin next to 0 may fall on its other side: one triple of a thousand
    for key in ("gold", "predicted", "correct"):
        assert getattr(found, key) == pytest.approx(card["check"][key], rel=2e-3), key
    assert card["environment"]["commit"] and not card["environment"]["commit"].endswith("+")


def test_a_shared_encoder_is_the_very_one():
    one, other = DocRE.load("atlop"), DocRE.load("dre_mir")
    assert torch.equal(one.encoder.embedding.weight, other.encoder.embedding.weight)
    assert one.encoder.embedding.weight.dtype == torch.float32


def test_a_folder_goes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert located("atlop") == trained()["atlop"]
    (tmp_path / "atlop").mkdir()
    with pytest.raises(ValueError, match="atlop: no model.json here"):
        docre_lite.load("atlop")
    with pytest.raises(ValueError, match="nothing: no model.json here"):
        docre_lite.load("nothing")


def test_saving_what_was_loaded_gives_a_whole_model(tmp_path):
    model, document = docre_lite.load("dre_mir"), running_example()
    model.save(tmp_path / "mine")
    assert predict(DocRE.load(tmp_path / "mine"), [document]) == predict(model, [document])


def test_margin_of_is_the_score_of_what_is_found():
    model, document = docre_lite.load("atlop"), running_example()
    for t in predict(model, [document]):
        assert margin_of(model, document, t.head, t.relation, t.tail) == pytest.approx(t.score, rel=1e-5)
    with pytest.raises(ValueError, match="knows no relation 'owns'"):
        margin_of(model, document, 0, "owns", 1)


def test_claras_question_is_answered_as_the_readme_says():
    document = running_example()
    names = [entity.name for entity in document.entities]
    asked = names.index("Clara Ramvik"), "citizenship", names.index("Velmark")
    assert margin_of(docre_lite.load("atlop"), document, *asked) < 0
    assert margin_of(docre_lite.load("dre_mir"), document, *asked) > 1


def test_models_are_made_by_the_script(tmp_path, monkeypatch, capsys):
    """All of it on a few documents: the encoder, a part on it, both saved in 16 bits with their cards."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import models

    few = {"READ": 24, "SHOWN": 8, "DEV": 4, "TEST": 6, "CHECK": 2}
    for name, value in few.items():
        monkeypatch.setattr(models, name, value)
    monkeypatch.setattr(models, "ENCODER", models.ENCODER | {"epochs": 1, "min_count": 1})
    monkeypatch.setattr(models, "HEADS", {"docre_ii": {"epochs": 2, "base_share": 0.5}, "atlop": {}})
    monkeypatch.setattr(sys, "argv", ["models.py", "--out", str(tmp_path)])
    models.main()
    assert "docre_ii F1" in capsys.readouterr().out
    for paper in ("atlop", "docre_ii"):
        card = json.loads((tmp_path / paper / "card.json").read_text(encoding="utf-8"))
        documents = generate("test", 6)
        assert score(predict(DocRE.load(tmp_path / paper), documents), documents).predicted == card["test"]["predicted"]
    assert not (tmp_path / "docre_ii" / "tokenizer.json").exists()
