"""From documents to triples with a trained model, with scores and evidence sentences."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from .encode import Tokens
from .model import DocRE
from .support import DataError
from .support.checks import check
from .support.machine import enough_memory
from .types import Batch, Document, PairFeatures, Prediction, Triple

PIECE = 1024  # triples whose evidence is looked up at once: a model that claims everything needs no more memory
EVIDENCE = 0.2  # share of a pair's attention that makes a sentence evidence
SMALLER = "use a smaller batch size, leave it out, or divide it; a smaller budget names such documents beforehand"
BUDGET = 1 << 14  # of `room`: a few GB of memory
Progress = bool | Callable[[int], object]  # a bar, or a function called with the number of documents after each batch


def predict(
    model: DocRE,
    documents: Sequence[Document],
    batch_size: int = 8,
    progress: Progress = False,
    evidence: float = EVIDENCE,
    budget: int | None = None,
) -> list[Triple]:
    """The triples a model finds, with their margin over the threshold as score and evidence sentences.

    `budget`: most of `room` per batch; none by default. A larger document raises DataError before any is read.
    Evidence means the sentences with at least the share `evidence` of the pair's attention, the strongest first;
    none without localized context. The order follows the documents, then head, tail and relation. Gold triples are
    not looked at. Raises DataError, before any work, for a document that `docre_lite.check` refuses.
    """
    documents = list(documents)
    check(documents, labels=False)
    _warn_of_types(model, documents)
    encoded = model.tokenizer.encode(documents)
    if budget:
        check_budget(model, encoded, budget, "`docre-lite extract` sets such documents aside")
    found = predict_encoded(model, encoded, batch_size, progress, evidence, budget)
    return [triple for triples in found for triple in triples]


def _warn_of_types(model: DocRE, documents: Sequence[Document]) -> None:
    """A model of chemicals and diseases finds nothing where they have other names."""
    pairs = model.tokenizer.pairs
    if pairs and documents and not any(d.restricted(pairs).candidates for d in documents if d.candidates is None):
        if all(d.candidates is None for d in documents):
            types = ", ".join(sorted({e.type for d in documents for e in d.entities})[:8]) or "none"
            names = ", ".join(":".join(pair) for pair in pairs[:8])
            warnings.warn(
                f"the model classifies pairs of the types {names}, of which the documents have none (their types: "
                f"{types}), so it finds nothing; rename the types",
                stacklevel=3,
            )


def predict_encoded(
    model: DocRE,
    encoded: Sequence[Tokens],
    batch_size: int = 8,
    progress: Progress = False,
    evidence: float = EVIDENCE,
    budget: int | None = None,
) -> list[list[Triple]]:
    """Like `predict`, for documents in sub-words: the triples of each one. `budget` as in `batches`."""
    found: dict[int, list[Triple]] = {}
    with torch.inference_mode():
        for where, batch, pairs, prediction in run_encoded(model, encoded, batch_size, False, progress, budget):
            if odd := [batch.documents[b].title for b in _not_finite(pairs, prediction)]:
                raise DataError(
                    f'document "{odd[0]}": the model\'s scores are not finite numbers; use fp32, or train the model '
                    "again with lower learning rates"
                )
            for b, triples in _read(model, batch, pairs, prediction, evidence):
                found[where[b]] = triples
    return [found[k] for k in range(len(encoded))]


def run(
    model: DocRE, documents: Sequence[Document], batch_size: int = 8, labels: bool = True, progress: Progress = False
) -> Iterator[tuple[list[int], Batch, PairFeatures, Prediction]]:
    """One forward pass over documents in batches of similar length: their indices, batch, features and prediction."""
    return run_encoded(model, model.tokenizer.encode(documents), batch_size, labels, progress)


def run_encoded(
    model: DocRE,
    encoded: Sequence[Tokens],
    batch_size: int = 8,
    labels: bool = True,
    progress: Progress = False,
    budget: int | None = None,
) -> Iterator[tuple[list[int], Batch, PairFeatures, Prediction]]:
    """Like `run`, for documents in sub-words."""
    training = model.training
    model.eval()
    try:
        with tqdm(total=len(encoded), unit="doc", disable=None if progress is True else True) as bar:
            for where in batches(encoded, batch_size, budget, rows_of(model)):
                with enough_memory([encoded[k].document.title for k in where], SMALLER):
                    batch = model.tokenizer.collate([encoded[k] for k in where], labels).to(model.device)
                    pairs = model.features(batch)
                    prediction = model.classifier(pairs, batch.labels)
                yield where, batch, pairs, prediction
                bar.update(len(where))
                if callable(progress):
                    progress(len(where))
    finally:
        model.train(training)


def batches(encoded: Sequence[Tokens], size: int, budget: int | None = None, rows: int = 1) -> list[list[int]]:
    """Indices in batches of similar length, the longest first, so that memory runs out at once or not at all.

    A batch has at most `size` documents, and at most `budget` of `room` (with `rows`) if it has more than one.
    """
    found: list[list[int]] = []
    for k in sorted(range(len(encoded)), key=lambda k: (-len(encoded[k].ids), k)):
        grown = [*found[-1], k] if found else [k]
        if found and len(grown) <= size and (budget is None or room([encoded[i] for i in grown], rows) <= budget):
            found[-1].append(k)
        else:
            found.append([k])
    return found


def room(batch: Sequence[Tokens], rows: int = 1) -> int:
    """The size of a batch with its padding: tokens, or whatever of `takes` there is more of.

    Each of them needs a vector, and most a number for every token: memory grows with their product.
    """
    each = [takes(tokens, rows) for tokens in batch]
    return len(batch) * max(max(one[what] for one in each) for what in each[0])


def takes(tokens: Tokens, rows: int = 1) -> dict[str, int]:
    """What a document takes memory for, each with its number; `rows` as in `rows_of`."""
    document = tokens.document
    return {
        "tokens": len(tokens.ids),
        "pairs of entities": len(document.entities) ** 2,
        "rows of attention at mentions": len(tokens.start) * rows,
        "sentences": len(document.sentences),
    }


def rows_of(model: DocRE) -> int:
    """Rows of attention that the model keeps for each mention: one per head and marker that it reads."""
    reading = model.tokenizer.reading
    return 1 if reading.context == "off" else model.encoder.heads * (2 if reading.read == "both" else 1)


def over(model: DocRE, tokens: Tokens, budget: int) -> str | None:
    """Why a document is larger than the budget, in words; None if it is not."""
    what, much = max(takes(tokens, rows_of(model)).items(), key=lambda item: item[1])
    return f"{much} {what}, more than the budget of {budget}; raise it if memory allows" if much > budget else None


def check_budget(model: DocRE, encoded: Sequence[Tokens], budget: int, way_out: str) -> None:
    """Raises DataError for the first document that is larger than the budget: better now than after hours."""
    for tokens in encoded:
        if fault := over(model, tokens, budget):
            raise DataError(f'document "{tokens.document.title[:60]}": {fault}; {way_out}')


@torch.inference_mode()
def margin_of(model: DocRE, document: Document, head: int, relation: str, tail: int) -> float:
    """The margin of one fact of a document, in logits: the model claims the fact if it is above 0.

    Raises ValueError for a relation that the model does not know.
    """
    if relation not in model.relations:
        raise ValueError(f"the model knows no relation {relation!r}; it knows {', '.join(model.relations.names[1:])}")
    ((_, _, _, prediction),) = run(model, [document], labels=False)
    return float(prediction.margin[0, head, tail, model.relations.index(relation)])


def sentence_shares(attention: Float[Tensor, "P L"], token_sentence: Tensor, sentences: int) -> Float[Tensor, "P S"]:
    """The share of each pair's attention in each sentence; markers count, [CLS] and [SEP] do not."""
    inside = token_sentence >= 0
    shares = attention.new_zeros(len(attention), sentences)
    shares.index_add_(1, token_sentence[inside], attention[:, inside])
    return shares / shares.sum(-1, keepdim=True).clamp_min(1e-10)


def _not_finite(pairs: PairFeatures, prediction: Prediction) -> list[int]:
    """The documents of a batch in which the score of a pair is NaN or infinite: nothing would be found, silently."""
    odd = ~prediction.logits.isfinite().all(-1) & pairs.mask
    return odd.flatten(1).any(1).nonzero().flatten().tolist()


def _read(model, batch, pairs, prediction, evidence) -> Iterator[tuple[int, list[Triple]]]:
    names = model.relations.names
    for b, document in enumerate(batch.documents):
        head, tail, relation = prediction.chosen[b].nonzero(as_tuple=True)
        scores = prediction.margin[b, head, tail, relation].tolist()
        sentences: list[tuple[int, ...]] = [()] * len(scores)
        if pairs.attention is not None and document.sentences and scores:
            sentences = []
            for some in zip(head.split(PIECE), tail.split(PIECE), strict=True):
                rows = pairs.attention[b, *some].float()
                shares = sentence_shares(rows, batch.token_sentence[b], len(document.sentences))
                order = shares.argsort(dim=-1, descending=True, stable=True)
                kept = (shares >= evidence).sum(-1).tolist()
                best = order[:, : max(kept)].tolist()
                sentences += [tuple(row[:k]) for row, k in zip(best, kept, strict=True)]
        rows = zip(head.tolist(), tail.tolist(), relation.tolist(), sentences, scores, strict=True)
        yield b, [Triple(document.title, h, names[r], t, evidence=e, score=s) for h, t, r, e, s in rows]


def tune(model: DocRE, documents: Sequence[Document], batch_size: int = 8, progress: Progress = False) -> None:
    """Sets the thresholds of a tunable objective on development documents; does nothing for the others."""
    objective = model.classifier.objective
    if not objective.tunable or not documents:
        return
    logits, labels = [], []
    with torch.inference_mode():
        for _, batch, pairs, prediction in run(model, documents, batch_size, progress=progress):
            logits.append(prediction.logits[pairs.mask].float().cpu())
            labels.append(batch.labels[pairs.mask].cpu())
    objective.fit(torch.cat(logits), torch.cat(labels))
