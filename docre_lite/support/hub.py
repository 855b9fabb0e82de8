"""Trained models on the hub: fetched at a revision, and the card that describes one. Nothing that is fetched is run."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from huggingface_hub import CommitInfo, ModelCard, ModelCardData, ModelHubMixin, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from huggingface_hub.utils import logging

from .. import __version__
from .store import staged, write_json

NAME = re.compile(r"([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?")
FILES = ("model.json", "tiny.json", "config.json", "tokenizer*.json", "card.json", "model.safetensors")
BROKEN = HfHubHTTPError.__bases__[0]  # any fault of a connection, of whichever client the hub library uses
UNKNOWN = "**not stated**: ask whoever made this model before you use it for more than reading and trying"


def parsed(name: str | Path) -> tuple[str, str | None] | None:
    """A name of the hub, "user/name" or "user/name@revision", in its two parts; None for anything else.

    A path whose first folder exists here is never taken for a name: a slip in a path asks nobody else for a model.
    """
    found = NAME.fullmatch(str(name)) if isinstance(name, str) or not name.is_absolute() else None
    if found is None or Path(found[1]).parent.is_dir():
        return None
    return found[1], found[2]


def fetch(name: str, revision: str | None = None, **how: Any) -> Path:
    """The folder of a model of the hub, as JSON and safetensors only; `how` goes to `snapshot_download`.

    Without a revision, it takes the newest and warns with its commit, which pins it the next time.
    Raises ValueError, in one line, if there is no such model or revision, or no connection.
    """
    what = f"model {name!r} is no folder here, and could not be fetched"
    with explained(what, "give a folder, or a model of the hub with the network on"):
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES), **how))
    if not (folder / "model.json").is_file():
        raise ValueError(f"model {name!r} has no model.json: it was not saved by docre_lite; choose another one")
    if revision is None:
        warnings.warn(
            f'model {name!r}: took its newest revision; to get the same one again, give revision="{folder.name}"',
            stacklevel=3,
        )
    return folder


@contextmanager
def explained(what: str, way_out: str) -> Iterator[None]:
    """Turns the hub library's errors, many lines each, into one line."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    except (BROKEN, EntryNotFoundError, OSError) as error:
        why = " ".join(str(getattr(error, "server_message", None) or error).split("\n\n")[-1].split())
        kind = {
            "RepositoryNotFoundError": "no such model, or it is private",
            "RevisionNotFoundError": "no such revision",
        }
        kind["LocalEntryNotFoundError"] = "the hub cannot be reached, and it is not in the cache"
        raise ValueError(f"{what}: {kind.get(type(error).__name__, why)}; {way_out}") from None
    finally:
        logging.set_verbosity(level)


class Shared(ModelHubMixin):
    """A model that travels: the hub library's mixin, with our files and our card.

    `about` holds what is known of its training (see `support.record`), with the epoch and dev scores of exactly these
    weights; it is empty for a model that is new or in the middle of an epoch.
    Subclasses have `write` and `_read` for the files of a model, `spec`, and a `classifier` with a title.
    """

    _hub_mixin_config: ClassVar = {"library_name": "docre_lite"}  # model.json has the rest
    about: dict[str, Any] = {}  # replaced, never changed in place

    def save(
        self, folder: str | Path, half: bool = False, shares: str | None = None, license: str | None = None
    ) -> None:
        """Saves everything that prediction needs, as JSON and safetensors; `half`: weights in 16 bits.

        With `shares`, the path from here to another saved model's folder, encoder and words are not written but taken
        from there: they must be the same. If its training is known, a card joins it: `card.json` for programs and
        `README.md`, which also names the `license`, such as "mit" (default: not stated). Files appear once all are
        written: none is torn.
        """
        if license:
            self.about = self.about | {"license": license}
        with staged(Path(folder)) as new:
            self.write(new, half, shares)
            self.write_card(new)

    def write_card(self, folder: Path) -> None:
        """The card, if the training is known."""
        if self.about:
            write_json(folder / "card.json", self.about)
            self.generate_model_card().save(folder / "README.md")

    def generate_model_card(self, name: str | None = None) -> ModelCard:
        """The card, see `card`; `name` is the model's name on the hub."""
        return card(self.spec(), self.about, self.classifier.title, name)

    def push_to_hub(self, repo_id: str, *, license: str | None = None, **how: Any) -> CommitInfo:
        """Puts the model on the hub as `repo_id`, "user/name", with its card. Returns the commit, with its address.

        `license` as in `save`; `how` goes to the hub library: `private=True`, `token`, `commit_message`, `branch`.
        Raises ValueError, in one line, without a connection, a token, or the right to write there.
        """
        if license:
            self.about = self.about | {"license": license}
        with explained(f"model {repo_id!r} could not be pushed", "see `hf auth login` and your rights there"):
            return super().push_to_hub(repo_id, model_card_kwargs={"name": repo_id}, **how)

    @classmethod
    def _from_pretrained(cls, *, model_id, revision, cache_dir, force_download, local_files_only, token, **options):
        how = {"cache_dir": cache_dir, "force_download": force_download, "local_files_only": local_files_only}
        folder = Path(model_id)
        return cls._read(folder if folder.is_dir() else fetch(model_id, revision, token=token, **how), options)

    def _save_pretrained(self, save_directory: Path) -> None:
        self.write(save_directory)
        if self.about:
            write_json(save_directory / "card.json", self.about)


def card(spec: Mapping[str, Any], about: Mapping[str, Any], title: str, name: str | None = None) -> ModelCard:
    """A model's card: how to use it, what it was trained on, scores, settings, limits.

    `spec` is `DocRE.spec`, `about` is `DocRE.about`, empty if the training is unknown; `name` is that of the hub.
    """
    licence, encoder = about.get("license"), about.get("encoder")
    data = ModelCardData(
        library_name="docre_lite",
        license=licence or "other",
        license_name=None if licence else "not-stated",
        tags=["relation-extraction", "document-level", spec["paper"]],
        base_model=encoder if encoder and spec["encoder"] != "tiny" and _public(encoder) else None,
    )
    parts = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {title}\n",
        f"Finds {len(spec['relations']) - 1} relations between the entities of a document, within and across "
        f"sentences. Made with docre_lite {about.get('environment', {}).get('docre_lite', __version__)}.\n",
        _use(name or "FOLDER"),
        _training(about),
        _scores(about),
        _limits(spec, about),
        f"## Licence\n\n{licence or UNKNOWN}. The licence of the training data and of the encoder may add to it.\n",
        f"## Relations\n\n{_listed(spec['relations'][1:], spec['labels'])}\n",
        f"Entity types: {', '.join(spec['types'])}.\n",
        _settings(about),
    ]
    return ModelCard("\n".join(filter(None, parts)))


def _public(encoder: str) -> bool:
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", encoder) is not None


def _use(name: str) -> str:
    pin = ' Pin what you load with `load(…, revision="COMMIT")`.' if name != "FOLDER" else ""
    return f"""## Use

```python
from docre_lite import load, read
from docre_lite.predict import predict
print(predict(load("{name}"), read("documents.json")))
```

or `docre-lite predict --run {name} --data documents.json --out result.json`.{pin} Documents come with their entities,
in DocRED's or PubTator's format or as marked-up text; loading runs no code from this repository.
"""


def _training(about: Mapping[str, Any]) -> str:
    if "epoch" not in about:
        return "## Training\n\nNot recorded.\n"
    files, counts, numbers = about.get("files", {}), about["documents"], about["parameters"]
    rows = [
        ("paper", about["paper"] + (f", variant {about['variant']}" if "variant" in about else "")),
        ("encoder", about["encoder"] or "not recorded"),
        *(
            (f"{key} documents", f"{counts[key]} ({files.get(key, 'file not recorded')})")
            for key in counts
            if counts[key]
        ),
        ("recipe", about.get("recipe", "not recorded")),
        ("seed", about["seed"]),
        ("epoch", f"{about['epoch']} of {about['settings']['epochs']}" + (", the best on dev" if about["dev"] else "")),
        ("parameters", f"{numbers['encoder']:,} (encoder) + {numbers['paper']:,} (paper)"),
        ("precision", f"{about['precision']} on {about['device']}"),
        ("versions", ", ".join(f"{k} {v}" for k, v in _versions(about).items())),
    ]
    return f"## Training\n\n{_table(('', ''), rows)}\n"


def _versions(about: Mapping[str, Any]) -> dict[str, str]:
    kept = ("docre_lite", "python", "torch", "transformers", "accelerate", "tokenizers", "safetensors")
    return {key: value for key in kept if (value := about["environment"].get(key))}


def _scores(about: Mapping[str, Any]) -> str:
    if not (dev := about.get("dev")):
        return "## Scores\n\nNone: no development documents were scored.\n"
    names = {"F1": "f1", "Ign F1": "ign_f1", "precision": "precision", "recall": "recall"}
    row = ["–" if dev[key] is None else f"{100 * dev[key]:.2f}" for key in names.values()]
    return (
        f"## Scores\n\nOn the development documents, in %:\n\n{_table(tuple(names), [row])}\n\nThey also chose the "
        "epoch, so they flatter the model a little. One seed, one split: another seed gives other scores.\n"
    )


def _limits(spec: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    reading = spec["reading"]
    lines = [
        "It needs the entities with all their mentions: it does not find them in plain text.",
        "It knows only the relations and entity types below; a type that it does not know is treated as unknown.",
        "Expect lower scores on text of another kind than its training documents.",
        f"Documents beyond {reading['window']} tokens are read in overlapping windows.",
        "A score is a margin over a threshold, in logits, and no probability.",
    ]
    if reading["max_tokens"]:
        lines[3] = f"Documents are cut after {reading['max_tokens']} tokens."
    if spec["encoder"] == "tiny":
        lines.append("Its encoder was trained from scratch and knows only words of its training documents.")
    if spec.get("pairs"):
        lines.append(f"It classifies only these pairs (head:tail): {', '.join(map(':'.join, spec['pairs']))}.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines) + "\n"


def _listed(relations: Sequence[str], labels: Mapping[str, str]) -> str:
    return ", ".join(f"{r} ({labels[r]})" if labels.get(r, r) != r else r for r in relations)


def _settings(about: Mapping[str, Any]) -> str:
    if not about.get("settings"):
        return ""
    lines = [f"{key} = {'none' if value is None else value}" for key, value in about["settings"].items()]
    return "## Settings\n\nEvery one with its final value:\n\n```text\n" + "\n".join(lines) + "\n```\n"


def _table(titles: tuple[str, ...], rows: Sequence[Sequence[Any]]) -> str:
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (titles, ("---",) * len(titles), *rows))
