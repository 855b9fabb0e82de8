"""The pictures: right cells, right words, nothing that only colour tells."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from docre_lite import load, show
from docre_lite.bench.results import Difference
from docre_lite.corpus import generate, running_example
from docre_lite.show.inks import FAST, INK, PAPER, dark
from docre_lite.show.phone import render, split
from docre_lite.show.plots import relation_codes
from docre_lite.types import Document, Entity, Mention, Triple


@pytest.fixture
def small() -> Document:
    """Two sentences, three entities, one composed triple; a name that must be escaped."""

    def entity(name, type, *places):
        return Entity(tuple(Mention(name, s, a, b, type) for s, a, b in places))

    return Document(
        title="A & B",
        sentences=(("Ann", "<lives>", "in", "Old", "Bern", "."), ("Bern", "is", "in", "Switzerland", ".")),
        entities=(
            entity("Ann", "PER", (0, 0, 1)),
            entity("Bern", "LOC", (0, 3, 5), (1, 0, 1)),
            entity("Switzerland", "LOC", (1, 3, 4)),
        ),
        triples=(
            Triple("A & B", 0, "lives_in", 1),
            Triple("A & B", 1, "country", 2),
            Triple("A & B", 0, "citizen", 2, premises=((0, "lives_in", 1), (1, "country", 2)), depth=1),
        ),
    )


class Balanced(HTMLParser):
    """Fails when a tag closes that is not the one last opened; collects text and titles."""

    def __init__(self, html):
        super().__init__()
        self.open, self.text, self.titles = [], [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.titles += [value for name, value in attributes if name == "title"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def texts(axes) -> list[str]:
    return [t.get_text() for t in axes.texts]


def test_document_names_each_mention_once_and_escapes(small):
    html = Balanced(show.document(small, highlight=[2], evidence=[1]).data)
    assert html.titles.count("entity 1: Bern, type LOC") == 2
    assert html.titles.count("evidence sentence") == 1
    assert "".join(html.text).split() == ("A & B [0] Ann0 <lives> in Old Bern1. [1] Bern1 is in Switzerland2.".split())
    assert show.document(small, highlight=[2]).data.count("font-weight:700") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("Selmouth , which ( so they say ) lies in Velmark .", "Selmouth, which (so they say) lies in Velmark."),
        ("It 's \" her \" book : the Ramviks ' 3.5 % !", "It's \"her\" book: the Ramviks' 3.5%!"),
        ("He asked “ why ? ” ; she did n't , he 'll .", "He asked “why?”; she didn't, he'll."),
        (", a dash - stays", ", a dash - stays"),
        ("", ""),
    ],
)
def test_words_are_joined_as_a_typesetter_would(words, said):
    assert show.sentence(words.split()) == said


def test_words_carry_their_weight_as_number_and_bar(small):
    weights = np.zeros(small.words)
    weights[7], weights[9] = 0.5, 1.0
    html = show.document(small, weights=weights).data
    assert html.count('title="0.5"') == html.count('title="1"') == 1
    assert html.count("border-bottom:5px") == 1 and html.count("border-bottom:2px") == 1
    Balanced(html)
    assert Balanced(show.heat(["a", "<b>"], [0, 0]).data).text == ["a", " ", "<b>"]
    with pytest.raises(ValueError, match="11 words"):
        show.document(small, weights=[1.0])


def test_pair_matrix_has_heads_down_and_tails_across(small):
    names = [e.name for e in small.entities]
    values = np.array([[9, 0.25, 0.5], [0, 9, 1], [0, 0, 9]])
    figure = show.pair_matrix(values, names, title="Scores", label="probability", pairs=[(0, 2)])
    axes = figure.axes[0]
    assert axes.get_ylabel() == "head entity" and axes.get_xlabel() == "tail entity"
    assert [t.get_text() for t in axes.get_yticklabels()] == names
    assert texts(axes) == ["0.25", "0.50", "0.00", "1.00", "0.00", "0.00"]  # the diagonal is no pair
    assert axes.patches[-1].get_xy() == (2, 0)  # head 0 is a row, tail 2 a column
    assert show.alt(figure) == "Scores; across: tail entity; down: head entity. across: probability"
    tensor = torch.tensor(values, requires_grad=True)
    mask = torch.tensor([[False, True, False]] * 3)
    assert texts(show.pair_matrix(tensor, names, mask=mask).axes[0]) == ["0.25", "9.00", "0.00"]
    assert texts(show.pair_matrix(-values, names, mask=mask, digits=1).axes[0]) == ["-0.2", "-9.0", "-0.0"]
    with pytest.raises(ValueError, match="3 x 3, not 2 x 3"):
        show.pair_matrix(values[:2], names)


def test_triples_matrix_tells_stated_from_composed_and_hit_from_wrong(small):
    gold = show.triples_matrix(small).axes[0]
    assert sorted(texts(gold)) == ["cit*", "cou", "liv"]
    legend = [t.get_text() for t in gold.get_legend().get_texts()]
    assert legend == ["stated", "composed *", "cit citizen", "cou country", "liv lives_in"]
    predicted = [Triple("A & B", 0, "lives_in", 1), Triple("A & B", 2, "country", 1), Triple("other", 0, "x", 1)]
    compared = show.triples_matrix(small, predicted).axes[0]
    where = {t.get_position(): t.get_text() for t in compared.texts}
    assert where == {(1.5, 0.5): "liv", (2.5, 0.5): "cit o", (2.5, 1.5): "cou o", (1.5, 2.5): "cou x"}


def test_dollar_signs_in_names_are_no_formula():
    names = ["$5", "up to $9", "a_b $x^$"]
    figures = [show.pair_matrix(np.eye(3), names, title="$1 and $2"), show.bars(dict.fromkeys(names, 1.0), xlabel="%")]
    for figure in figures:
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg")
        assert all(text.get_text().count(r"\$") == text.get_text().count("$") for text in figure.axes[0].texts)


def test_codes_of_the_corpus_are_the_same_in_every_figure():
    names = load("atlop").relations.names[1:]
    codes = relation_codes(names)
    assert len(set(codes.values())) == len(names) and {len(code) for code in codes.values()} == {3}
    assert all(relation_codes([name])[name] == code for name, code in codes.items())
    assert relation_codes(["ab", "abacus", "abate", "abatement"]) == {
        "ab": "ab", "abacus": "aba", "abate": "abat", "abatement": "abate"
    }  # fmt: skip


def test_stars_are_those_that_the_encoder_reads(small):
    assert show.starred(small).sentences[0] == ("*", "Ann", "*", "<lives>", "in", "*", "Old", "Bern", "*", ".")
    network = load("atlop")
    for document in [*generate("dev", 12), running_example()]:  # names within names among them
        starred = show.starred(document)
        read = [word for sentence in starred.sentences for word in sentence]
        (tokens,) = network.tokenizer.encode([document])
        assert [word == "*" for word in read] == [place < 0 for place in tokens.word[1:-1]]
        assert starred.triples == document.triples and not any(w == "*" for s in document.sentences for w in s)
        for entity, moved in zip(document.entities, starred.entities, strict=True):
            for m, now in zip(entity.mentions, moved.mentions, strict=True):
                span = [w for w in starred.sentences[now.sentence][now.start : now.end] if w != "*"]
                assert span == list(document.sentences[m.sentence][m.start : m.end])
                assert starred.sentences[now.sentence][now.start - 1] == "*"
                assert starred.sentences[now.sentence][now.end] == "*"


def test_curves_and_bars_carry_labels():
    history = [{"step": 1, "loss": 2.0, "f1": None}, {"step": 2, "loss": 1.0, "f1": 40.0}]
    axes = show.curves(history, y=["loss", "f1"], xlabel="steps", ylabel="loss / F1 in %").axes[0]
    assert [list(line.get_xdata()) for line in axes.lines] == [[1, 2], [2]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("steps", "loss / F1 in %")
    axes = show.bars({"ATLOP": 61.09, "DocuNet": 61.83}, xlabel="dev F1 in %").axes[0]
    assert texts(axes) == ["61.1", "61.8"] and [p.get_width() for p in axes.patches] == [61.09, 61.83]


def test_forest_draws_means_intervals_and_the_papers_effect():
    clear = Difference(2.0, (1.9, 2.1), 1.5, 2.5, "better", published=2.2)
    unclear = Difference(-1.0, (-3.0, 1.0), -4.0, 2.0, "no verdict: 2 seeds")
    (axes,) = show.forest({"one": clear, "two": unclear}).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]
    places = [(float(x), float(y)) for line in axes.lines[1:] for x, y in zip(*line.get_data(), strict=True)]
    assert (2.0, 0) in places and (-1.0, 1) in places and (2.2, 0.22) in places
    left, right = show.forest({"F1": {"one": clear, "two": unclear}, "inter F1": {"two": clear, "one": None}}).axes
    assert (left.get_xlabel(), right.get_xlabel()) == ("F1", "inter F1")
    assert (2.0, 1) in [tuple(np.ravel(line.get_data())) for line in right.lines if len(line.get_xdata()) == 1]


def test_source_is_read_from_the_module():
    text = show.source(show.say, Triple).data
    assert "`say` in `docre_lite/show/text.py`" in text and "    return Markdown(text)\n```" in text
    assert "class Triple:" in text and "`Triple` in `docre_lite/types.py`" in text


def test_results_reads_rows_and_single_records(tmp_path, monkeypatch):
    monkeypatch.setattr("docre_lite.support.PACKAGE", tmp_path / "docre_lite")
    assert show.results("atlop") == []
    folder = tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)
    (folder / "atlop-tiny.json").write_text(json.dumps([{"seed": 1}, {"seed": 2}]))
    (folder / "docunet.json").write_text(json.dumps({"seed": 3}))
    assert show.results("atlop") == [{"seed": 1}, {"seed": 2}]
    assert len(show.results()) == 3


def test_table_has_caption_and_column_headers():
    html = show.table([{"paper": "A<B", "F1": 61.09}, {"paper": "C", "F1": None}], caption="Scores & more").data
    Balanced(html)
    assert html.count('<th scope="col">') == 2 and "<caption><span>Scores &amp; more</span></caption>" in html
    assert "61.1" in html and "A&lt;B" in html and "NaN" not in html
    assert show.table([{"": 1, "n": 2}]).data.count("<th") == 2  # the head of the table, and n's


def test_colours_differ_in_greyscale():
    def lightness(colour):
        red, green, blue = (
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in matplotlib.colors.to_rgb(colour)
        )
        return 116 * (0.2126 * red + 0.7152 * green + 0.0722 * blue) ** (1 / 3) - 16

    steps = np.diff([lightness(colour) for colour in show.COLOURS])
    assert (steps > 10).all()


def luminance(colour: str) -> float:
    shares = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in matplotlib.colors.to_rgb(colour)]
    return float(np.dot((0.2126, 0.7152, 0.0722), shares))


def words_of(svg: str) -> set[str]:
    """The colours of a figure's words."""
    return set(re.findall(r'<g style="fill: (#[0-9a-f]{6})', svg))


def test_a_figure_turns_for_the_dark_page(small):
    with matplotlib.rc_context():
        show.style()
        svg = render(show.triples_matrix(small))
        assert svg == render(show.triples_matrix(small))  # no date, no chance
        night = dark(svg)
    assert words_of(svg) == {INK} and all(luminance(colour) > 0.7 for colour in words_of(night))
    assert PAPER in svg and PAPER not in night and "#7cc4ec" in svg and "#7cc4ec" not in night
    grounds = [colour for colour in set(re.findall(r'<path[^>]*"fill: (#[0-9a-f]{6})', night))]
    assert grounds and all((luminance("#e6e9ee") + 0.05) / (luminance(colour) + 0.05) >= 4.5 for colour in grounds)


def test_lines_are_seen_on_the_dark_page_and_still_differ():
    figure, axes = plt.subplots()
    for k, colour in enumerate(show.COLOURS):
        axes.plot([0, 1], [k, k], color=colour, marker="")
    plt.close(figure)
    drawn = [re.search(r"stroke: (#[0-9a-f]{6})", dark(f"stroke: {colour}"))[1] for colour in show.COLOURS]
    assert len(set(drawn)) == len(drawn)
    assert all((luminance(colour) + 0.05) / (luminance("#121212") + 0.05) >= 3 for colour in drawn)


def test_what_lies_on_a_picture_keeps_its_ink():
    with matplotlib.rc_context():
        show.style()
        figure, axes = plt.subplots()
        axes.imshow(np.eye(3), cmap=show.SEQUENTIAL)
        axes.text(1, 1, "on it")
        axes.set_title("beside it")
        plt.close(figure)
        assert {FAST, "#e6e9ee"} <= words_of(dark(render(figure)))
        figure, axes = plt.subplots()
        axes.imshow(np.eye(3), cmap="Blues")  # a map from white has the page for its white
        axes.text(1, 1, "on it", color="black")
        plt.close(figure)
        assert words_of(dark(render(figure))) == {"#e6e9ee"} and axes.images[0].to_rgba(0.0)[3] == 0


def test_a_wide_figure_carries_a_narrow_one_with_letters_of_the_same_size():
    with matplotlib.rc_context():
        show.style()
        figure, panels = plt.subplots(1, 3, figsize=(10, 3), sharey=True)
        for axes in panels:
            axes.plot([0, 1], [1, 0], label="a line")
            axes.set_xlabel("a quantity with a long name")
        panels[0].set_ylabel("height")
        plt.close(figure)
        svg = render(figure)
        wide, narrow = split(svg)
        assert figure.get_size_inches().tolist() == [10, 3] and not panels[1].get_ylabel()  # it is as it was
        assert 760 > width(wide) > 660 > 400 > width(narrow) and "metadata id" not in wide
        assert narrow.count("<!-- height -->") == 3  # each panel stands for itself now
        crowded, axes = plt.subplots(figsize=(10, 2))
        axes.set_xticks(range(12), [f"a long name {k}" for k in range(12)])
        plt.close(crowded)
        assert split(render(crowded))[1] is None  # words would collide


def width(svg: str) -> float:
    return float(re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)[1]) / 0.75
