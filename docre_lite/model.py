"""A whole model: an encoder, the shared features, and a paper; found by name, saved and loaded without pickle."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from . import ops
from .encode import Reading, Tokenizer, typed_pairs
from .encoder import Encoder, PretrainedEncoder, TinyConfig, TinyEncoder, tiny_tokenizer
from .objectives import Objective
from .support import PACKAGE, DataError, hub, shipped
from .support.settings import Variant, fields, update
from .support.store import ANEW, check_weights, differs, read_json, read_tensors, write_over, write_tensors
from .support.subwords import check_fits, warn_of_unknown
from .types import Batch, Document, PairFeatures, Prediction, Relations


@dataclass(frozen=True)
class Inputs:
    """The properties of its input features that a paper must know."""

    width: int  # D, the encoder's hidden units
    relations: int  # R, with NA
    types: int  # entity types, padding and unknown included
    context: bool = True  # is there localized context?


class PairClassifier(nn.Module):
    """A paper: everything after the pair features. One subclass per file in `papers/`: `Paper(inputs, options)`."""

    name: ClassVar[str]
    title: ClassVar[str]
    Options: ClassVar[type]  # a dataclass of settings, see `settings.option`
    recipes: ClassVar[dict[str, dict[str, Any]]]  # published settings by data set, each with its table
    variants: ClassVar[dict[str, Variant]]  # baselines and ablations that the paper printed
    equivariant: ClassVar[bool] = True  # are the logits independent of entity order?

    objective: Objective
    draws: bool = False  # does prediction draw random numbers, too?
    idle_weights: bool = False  # may a training step leave weights out of its losses?
    base_share: float = 0.0  # share of all epochs that train a part named `base` alone, before the whole
    base_lr: float | None = None  # then the peak learning rate of encoder and base; None: unchanged

    def logits(self, pairs: PairFeatures, trace: dict[str, Tensor]) -> Float[Tensor, "B N N R"]:
        raise NotImplementedError

    def more_losses(
        self, pairs: PairFeatures, labels: Bool[Tensor, "B N N R"], trace: dict[str, Tensor]
    ) -> dict[str, Float[Tensor, ""]]:
        """Losses other than that of the relations, by name, from the trace that `logits` left."""
        return {}

    def forward(
        self,
        pairs: PairFeatures,
        labels: Bool[Tensor, "B N N R"] | None = None,
    ) -> Prediction:
        """Logits of all pairs, the relations chosen, none outside the mask; with labels, losses."""
        trace: dict[str, Tensor] = {}
        logits = self.logits(pairs, trace)
        chosen, margin = self.objective.decide(logits.detach())
        losses: dict[str, Tensor] = {}
        if labels is not None:
            losses["relation"] = self.objective.loss(logits[pairs.mask], labels[pairs.mask])
            losses |= self.more_losses(pairs, labels, trace)
        return Prediction(logits, chosen & pairs.mask.unsqueeze(-1), margin, losses, trace)


def _papers() -> dict[str, type[PairClassifier]]:
    """Every paper in the folder `papers/`, by name."""
    found = {}
    for module in pkgutil.iter_modules([str(PACKAGE / "papers")]):
        for thing in vars(importlib.import_module(f".papers.{module.name}", __package__)).values():
            if isinstance(thing, type) and issubclass(thing, PairClassifier) and thing is not PairClassifier:
                found[thing.name] = thing
    return dict(sorted(found.items()))


def paper(name: str) -> type[PairClassifier]:
    """The paper of that name. Raises ValueError with the names there are."""
    found = _papers()
    if name not in found:
        raise ValueError(f"no paper {name!r}; have {', '.join(found)}")
    return found[name]


class DocRE(nn.Module, hub.Shared):
    """Documents in, predictions out: tokenizer, encoder, shared pooling and a paper."""

    def __init__(self, tokenizer: Tokenizer, encoder: Encoder, classifier: PairClassifier):
        super().__init__()
        if tokenizer.reading.window > encoder.longest:
            raise ValueError(
                f"window={tokenizer.reading.window}, but the encoder reads {encoder.longest} tokens at most"
            )
        encoder.resize(len(tokenizer.subwords))
        self.tokenizer, self.encoder, self.classifier = tokenizer, encoder, classifier

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def relations(self) -> Relations:
        return self.tokenizer.relations

    def batch(self, documents: Sequence[Document], labels: bool = True) -> Batch:
        """The documents as one batch on the model's device."""
        return self.tokenizer.collate(self.tokenizer.encode(documents), labels).to(self.device)

    def features(self, batch: Batch) -> PairFeatures:
        """The features that every paper starts from: entity embeddings and localized context."""
        reading = self.tokenizer.reading
        tokens, looks = self.read(batch)
        mentions = ops.mention_vectors(tokens, batch.mention_start, batch.mention_end, reading.read)
        count, attention = batch.entity_type.shape[1], None
        if looks is not None:
            attention = ops.common_attention(looks, reading.context, batch.token_mask)
        return PairFeatures(
            document=tokens[:, 0],
            entities=ops.pool_mentions(mentions, batch.mention_entity, count, reading.pool),
            attention=attention,
            tokens=tokens,
            mask=batch.mask,
            batch=batch,
        )

    def read(self, batch: Batch) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B A N L"] | None]:
        """The token vectors, and each entity's attention; None if the model pools no context."""
        reading = self.tokenizer.reading
        if reading.context == "off":
            return self.encoder(batch, None)[0], None
        tokens, rows = self.encoder(batch, self._positions(batch))
        if reading.read == "both":
            rows = rows.unflatten(2, (2, -1)).mean(2)
        if reading.attention_dropout:
            rows = F.dropout(rows, 0.1, self.training)
        return tokens, ops.entity_attention(rows, batch.mention_entity, batch.entity_type.shape[1])

    def _positions(self, batch: Batch) -> Tensor:
        if self.tokenizer.reading.read != "both":
            return batch.mention_start
        return torch.cat([batch.mention_start, batch.mention_end], 1)

    def forward(self, batch: Batch) -> Prediction:
        return self.classifier(self.features(batch), batch.labels)

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting that made the model, by the name that `--set` has for it, with its final value."""
        tiny = asdict(self.encoder.config) if isinstance(self.encoder, TinyEncoder) else {}
        return asdict(self.classifier.options) | asdict(self.tokenizer.reading) | tiny

    def spec(self) -> dict[str, Any]:
        """The full description of the model, except for the encoder's sizes and the weights."""
        return {
            "paper": self.classifier.name,
            "options": asdict(self.classifier.options),
            "reading": asdict(self.tokenizer.reading),
            "encoder": "tiny" if isinstance(self.encoder, TinyEncoder) else "pretrained",
            "relations": list(self.relations.names),
            "labels": dict(self.relations.labels),
            "types": list(self.tokenizer.types),
        } | ({} if self.tokenizer.pairs is None else {"pairs": [list(pair) for pair in self.tokenizer.pairs]})

    def write(self, folder: str | Path, half: bool = False, shares: str | None = None) -> None:
        """As `save`, file by file and in place: for a folder that exists twice, see `support.checkpoint`."""
        (folder := Path(folder)).mkdir(parents=True, exist_ok=True)
        spec = self.spec() | ({"shares": shares} if shares else {})
        write_over(folder / "model.json", (json.dumps(spec, indent=1, ensure_ascii=False) + "\n").encode())
        if not shares:
            self.encoder.save(folder)
            self.tokenizer.subwords.save_pretrained(folder)
        weights = {k: v for k, v in self.state_dict().items() if not (shares and k.startswith("encoder."))}
        if half:
            weights = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
        write_tensors(folder / "model.safetensors", weights)

    @classmethod
    def load(cls, folder: str | Path, revision: str | None = None, **options: Any) -> DocRE:
        """A saved model: a folder, a paper's name for the model that comes with the package (`trained`), or the name
        "user/name" of one on the hub.

        `revision` is a commit, tag or branch of the hub (default: the newest, whose commit is then given in a warning).
        `options` change settings of the paper that affect prediction, such as `rounds` of DocRE-II. No code in the
        folder or from the hub is run: only JSON and safetensors are read. Raises ValueError if there is
        no whole model, or an option is unknown or requires other weights.
        """
        return cls._read(located(folder, revision), options)

    @classmethod
    def _read(cls, folder: Path, options: dict[str, Any]) -> DocRE:
        if not (folder / "model.json").is_file():
            raise ValueError(f"{folder}: no model.json here; {_way_to_a_model(folder)}")
        spec = read_json(folder / "model.json")
        _check_spec(spec, folder / "model.json")
        network = PretrainedEncoder if spec["encoder"] == "pretrained" else TinyEncoder
        home = folder / str(spec.get("shares", ""))
        if home != folder and home.resolve().parent != folder.resolve().parent:
            raise DataError(f"{folder}: shares an encoder that is not beside it ({home}); put both into one folder")
        for name in (network.file, "tokenizer.json", "tokenizer_config.json"):
            read_json(home / name)  # their own readers do not name a file that is torn
        weights = read_tensors(folder / "model.safetensors")
        if home != folder:
            lent = read_tensors(home / "model.safetensors")
            weights |= {name: tensor for name, tensor in lent.items() if name.startswith("encoder.")}
        check_weights(folder / "model.safetensors", weights)
        read = {name.removeprefix("encoder."): w for name, w in weights.items() if name.startswith("encoder.")}
        try:
            if fault := network.unlike(home, read):
                raise _Foreign(folder, network.file, fault)
            encoder, subwords = network.from_folder(home), PreTrainedTokenizerFast.from_pretrained(home)
            for key in ("is_local", "local_files_only"):  # otherwise saving it again would reveal its source
                subwords.init_kwargs.pop(key, None)
            tokenizer = _tokenizer(subwords, spec)
            check_fits(subwords, len(read[encoder.table]))
            kind = paper(spec["paper"])
            saved = kind.Options(**spec["options"])
        except _Foreign:
            raise
        except Exception as error:  # whatever libraries raise for files that are not a model's
            why = f"model.json lacks {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
            raise DataError(f"{folder}: its model cannot be built here ({why}); {ANEW}") from error
        if unknown := sorted(set(options) - set(fields(kind.Options))):
            raise ValueError(f"{kind.name} has no setting {unknown[0]!r}; have {', '.join(fields(kind.Options))}")
        chosen = update(saved, options)
        model, fault = _filled(tokenizer, encoder, kind, chosen, weights)
        if fault and (changed := ", ".join(options)):
            raise ValueError(f"{folder}: {changed} cannot be changed after training: it requires other weights")
        if fault:
            raise _Foreign(folder, network.file, fault)
        if (folder / "card.json").is_file():
            model.about = read_json(folder / "card.json")
            encoder.source = encoder.source or model.about.get("encoder")
        return model.eval()


def _tokenizer(subwords: PreTrainedTokenizerFast, spec: dict[str, Any]) -> Tokenizer:
    relations = Relations(tuple(spec["relations"]), spec["labels"])
    pairs = None if spec.get("pairs") is None else tuple((head, tail) for head, tail in spec["pairs"])
    return Tokenizer(subwords, relations, tuple(spec["types"]), Reading(**spec["reading"]), pairs)


def _filled(tokenizer, encoder, kind, options, weights) -> tuple[DocRE | None, str | None]:
    """The model with its weights, or why they do not belong to it."""
    own = {name: weight for name, weight in weights.items() if not name.startswith("encoder.")}
    try:
        inputs = _inputs(tokenizer, encoder)
        with torch.device("meta"):  # takes no memory, however large its sizes are
            meant = kind(inputs, options).state_dict(prefix="classifier.")
        if fault := differs(meant, own):
            return None, fault
        model = DocRE(tokenizer, encoder, kind(inputs, options))
        model.load_state_dict(weights)
    except (ValueError, RuntimeError) as error:  # sizes that do not go together, for which papers have their own words
        return None, " ".join(str(error).split())[:200]
    return model, None


class _Foreign(DataError):
    """Weights that do not belong to the files beside them."""

    def __init__(self, folder: Path, file: str, fault: str):
        super().__init__(
            f"{folder}: model.safetensors does not belong to the model that model.json and {file} describe ({fault}); "
            "use files that were saved together"
        )


def _check_spec(spec: dict[str, Any], path: Path) -> None:
    """Raises DataError for a field that is absent or of another type."""
    kinds = {"paper": str, "options": dict, "reading": dict, "encoder": str, "relations": list, "labels": dict}
    kinds |= {"types": list}
    for name, kind in kinds.items():
        if not isinstance(spec.get(name), kind):
            what = f"{name} is not a {kind.__name__}" if name in spec else f"lacks {name!r}"
            raise DataError(f"{path.parent}: its model cannot be built here (model.json {what}); {ANEW}")
    names = [*spec["relations"], *spec["types"], *spec["labels"].values()]
    if odd := [name for name in names if not isinstance(name, str)]:
        raise DataError(f"{path}: {odd[0]!r} is no name of a relation or type; {ANEW}")
    if spec["encoder"] not in ("tiny", "pretrained") or not isinstance(spec.get("shares", ""), str):
        raise DataError(f"{path}: encoder is 'tiny' or 'pretrained', and shares the path of a folder; {ANEW}")


def trained() -> dict[str, Path]:
    """The models that come with the package, by paper: tiny ones, trained on the embedded corpus."""
    folder = shipped("data/models")
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/model.json"))}


def located(model: str | Path, revision: str | None = None, **how: Any) -> Path:
    """The folder of a model: as given, or if there is none, the one of `trained` with that name, or from the hub.

    On the hub, "user/name@revision" is short for a revision; `how` as in `hub.fetch`. Raises ValueError for a revision
    of a model that is not from there.
    """
    folder = Path(model) if Path(model).exists() else trained().get(str(model))
    if folder is None and (found := hub.parsed(model)):
        return hub.fetch(found[0], revision or found[1], **how)
    if revision:
        raise ValueError(f"{model}: revision={revision} is for models of the hub, and this is a folder; leave it out")
    return folder or Path(model)


def _way_to_a_model(folder: Path) -> str:
    inside = folder / "model"
    if inside.is_dir():
        return f"give {inside}"
    way = "`docre-lite train` writes it into model/ in its --out folder"
    return way if folder.exists() else f"{way}; the package contains {', '.join(trained())}; the hub has user/name"


def load(model: str | Path, revision: str | None = None, **options: Any) -> DocRE:
    """`DocRE.load`: the model in a folder, or by name: a paper's, which comes with the package, or one of the hub."""
    return DocRE.load(model, revision, **options)


def build(
    name: str, documents: Sequence[Document], encoder: str = "tiny", relations: Relations | None = None, **settings: Any
) -> DocRE:
    """A new model for a paper, with relations, entity types (and the tiny encoder's words) taken from documents.

    If all documents name their candidates, as `read(..., pairs="cdr")` makes them, the model keeps the types of these
    pairs, and classifies no others in a document without candidates.

    `encoder` is "tiny", a hub name or a folder. `settings` are those of `Reading`, the paper's `Options` and
    `TinyConfig`, and `variant`, the name of one of the paper's baselines or ablations. Raises ValueError for names
    that none of them has.
    """
    kind = paper(name)
    settings = expand(kind, settings)
    known = fields(Reading, kind.Options, TinyConfig)
    if unknown := sorted(set(settings) - set(known)):
        raise ValueError(f"{name} has no setting {unknown[0]!r}; have {', '.join(sorted(known))}, variant")
    if not documents:
        raise ValueError("no documents to take relations and words from; give at least one")
    reading = update(Reading(), settings)
    if encoder == "tiny":
        config = update(TinyConfig(), settings)
        subwords = tiny_tokenizer(documents, config.min_count)
        network: Encoder = TinyEncoder(len(subwords), config)
    else:
        network, subwords = PretrainedEncoder.load(encoder)
        warn_of_unknown(subwords, encoder, (sentence for d in documents[:100] for sentence in d.sentences))
    types = tuple(sorted({m.type for d in documents for e in d.entities for m in e.mentions}))
    tokenizer = Tokenizer(subwords, relations or Relations.of(documents), types, reading, typed_pairs(documents))
    return DocRE(tokenizer, network, classifier(name, tokenizer, network, **settings))


def classifier(name: str, tokenizer: Tokenizer, encoder: Encoder, **settings: Any) -> PairClassifier:
    """A new classifier alone, for an existing encoder; settings for which the paper has no field are left out."""
    kind = paper(name)
    return kind(_inputs(tokenizer, encoder), update(kind.Options(), expand(kind, settings)))


def _inputs(tokenizer: Tokenizer, encoder: Encoder) -> Inputs:
    types = len(tokenizer.types) + 2  # padding and unknown
    return Inputs(encoder.width, len(tokenizer.relations), types, tokenizer.reading.context != "off")


def expand(kind: type[PairClassifier], settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with the named variant's filled in; settings given beside the variant take precedence."""
    settings = dict(settings)
    name = settings.pop("variant", None)
    if name is None:
        return settings
    if name not in kind.variants:
        raise ValueError(f"{kind.name} has no variant {name!r}; have {', '.join(kind.variants)}")
    return {**kind.variants[name].settings, **settings}
