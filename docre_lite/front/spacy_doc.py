"""A `Doc` of spaCy to a document: its tokens and sentences, its entities as mentions, its coreference if it has any."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..formats.text import Span, plain_name, split_sentences
from ..support import DataError
from ..support.checks import place
from ..types import Document, Entity, Mention
from .spans import by_name, paragraphs


def from_spacy(
    doc: Any, title: str = "text", *, types: Mapping[str, str] | None = None, clusters: str = "coref_clusters"
) -> Document:
    """One document from a `Doc` of spaCy.

    Words are spaCy's tokens, apart from spaces. Sentences are spaCy's if a component has set them, else those of
    `formats.text`; sentences that a mention crosses are joined. Mentions are `doc.ents`. Two of them are one entity

    * if an entity linker gave them the same `kb_id_` (not NIL), which becomes the entity's id;
    * else if they are in one cluster of coreference: a span group `coref_clusters_1`, …, as spacy-experimental
      writes them. A span of a cluster means a mention of `doc.ents` with the same words (an article aside) or with its
      head in it; further spans of such a cluster, pronouns for instance, become mentions of the same type;
    * else if they have the same name and type (`spans.by_name`).

    Args:
        doc: a `Doc` whose pipeline has found entities.
        types: new names for entity types, such as `{"PERSON": "PER"}`; an empty name leaves the type's mentions out.
        clusters: what the names of coreference span groups start with.

    Raises:
        DataError: the doc has no words.
    """
    return read(doc, title, types=types, clusters=clusters).document


@dataclass(frozen=True)
class Reading:
    """A document, and the number in the `Doc` of each of its words, by sentence."""

    document: Document
    tokens: list[list[int]]


class Found(NamedTuple):
    """A mention of tokens `[start, end)`."""

    start: int
    end: int
    type: str
    key: str | None = None  # of its entity
    id: str | None = None  # in a knowledge base


def read(
    doc: Any,
    title: str = "text",
    *,
    types: Mapping[str, str] | None = None,
    clusters: str = "coref_clusters",
    where: str = "from_spacy",
) -> Reading:
    """Like `from_spacy`, with the way back from words to tokens."""
    if not any(not token.is_space for token in doc):
        raise DataError(f"{place(where, title)}: no words; give a text")
    types = types or {}
    found = [
        Found(*trimmed, types.get(ent.label_, ent.label_), id=ent.kb_id_ if ent.kb_id_ not in ("", "NIL") else None)
        for ent in doc.ents
        if types.get(ent.label_) != "" and (trimmed := _trimmed(doc, ent.start, ent.end))
    ]
    found = sorted({(m.start, m.end): m for m in _clustered(doc, found, clusters)}.values())
    tokens = _sentences(doc, found)
    at = {token: (s, w) for s, sentence in enumerate(tokens) for w, token in enumerate(sentence)}
    names = [" ".join(doc[m.start : m.end].text.split()) for m in found]
    entities: dict[Any, list[Mention]] = {}
    ids: dict[Any, set[str]] = {}
    keys = by_name((name, m.type, m.key) for name, m in zip(names, found, strict=True))
    for name, mention, key in zip(names, found, keys, strict=True):
        sentence, start = at[mention.start]
        end = at[mention.end - 1][1] + 1
        entities.setdefault(key, []).append(Mention(name, sentence, start, end, mention.type))
        ids.setdefault(key, set()).update({mention.id} - {None})
    words = tuple(tuple(doc[i].text for i in sentence) for sentence in tokens)
    made = tuple(Entity(tuple(ms), id=min(ids[key]) if len(ids[key]) == 1 else None) for key, ms in entities.items())
    return Reading(Document(title, words, made), tokens)


def _trimmed(doc: Any, start: int, end: int) -> tuple[int, int] | None:
    """The tokens without spaces at either end."""
    inside = [i for i in range(start, end) if not doc[i].is_space]
    return (inside[0], inside[-1] + 1) if inside else None


def _clustered(doc: Any, found: list[Found], prefix: str) -> list[Found]:
    """The mentions with the key of their entity, and the further mentions of their clusters."""
    keys: dict[int, str] = {i: f"id {mention.id}" for i, mention in enumerate(found) if mention.id}
    more = []
    for group in sorted(name for name in doc.spans if name.startswith(f"{prefix}_")):
        spans = list(doc.spans[group])
        matched = [next((i for i, m in enumerate(found) if _same(doc, span, m)), None) for span in spans]
        known = [i for i in matched if i is not None]
        linked = {keys[i] for i in known if found[i].id}
        key = linked.pop() if len(linked) == 1 else f"cluster {group}"
        for i in known:
            keys.setdefault(i, key)
        taken = {(found[i].start, found[i].end) for i in known}
        for span, match in zip(spans, matched, strict=True):
            new = _trimmed(doc, span.start, span.end)
            if known and match is None and new and new not in taken:
                more.append(Found(*new, found[known[0]].type, key))
    return [*more, *(m._replace(key=keys.get(i)) for i, m in enumerate(found))]


def _same(doc: Any, span: Any, mention: Found) -> bool:
    """Does a span of a cluster mean this mention: the same words, or its head within it?"""
    named = doc[mention.start : mention.end]
    overlap = span.start < mention.end and mention.start < span.end
    if overlap and plain_name(span.text) == plain_name(named.text):
        return True
    if len(span) == 1:
        return mention.start <= span.start < mention.end
    if not doc.has_annotation("DEP") or any(t.dep_ == "conj" and t.head == span.root for t in span):
        return False
    return mention.start <= span.root.i < mention.end


def _sentences(doc: Any, found: list[Found]) -> list[list[int]]:
    """The tokens of each sentence, without spaces."""
    if doc.has_annotation("SENT_START"):
        starts = {sentence.start for sentence in doc.sents}
    else:
        spans = [Span(doc[m.start].idx, doc[m.end - 1].idx + len(doc[m.end - 1]), m.type, "") for m in found]
        begin = [token.idx for token in doc]
        ranges = split_sentences(doc.text, spans, paragraphs(doc.text))
        starts = {bisect_left(begin, a) for a, _ in ranges}
    starts = {i for i in starts if not any(m.start < i < m.end for m in found)}
    cuts = sorted({0, len(doc), *starts})
    sentences = ([i for i in range(a, b) if not doc[i].is_space] for a, b in zip(cuts, cuts[1:], strict=False))
    return [sentence for sentence in sentences if sentence]
