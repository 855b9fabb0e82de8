"""The text that `docre-lite train --help-paper PAPER` prints."""

from __future__ import annotations

from dataclasses import fields


def describe(name: str) -> str:
    """A paper's recipes, variants and settings."""
    from ..encode import Reading
    from ..encoder import TinyConfig
    from ..model import paper
    from ..support.settings import kind_of
    from ..train import TrainConfig

    kind = paper(name)
    lines = [kind.title, "", "recipes (--recipe NAME):"]
    lines += [f"  {name:<22} " + ", ".join(f"{k}={v}" for k, v in r.items()) for name, r in kind.recipes.items()]
    lines += ["", "variants (--set variant=NAME), with the paper's DocRED dev scores (Ign F1 / F1):"]
    for name, v in kind.variants.items():
        printed = f" [{'-' if v.ign_f1 is None else f'{v.ign_f1:.2f}'} / {v.f1:.2f}]" if v.f1 else ""
        lines.append(f"  {name:<22} {v.help}{printed}")
        if v.settings:
            lines.append(f"  {'':<22}   = " + ", ".join(f"{k}={value}" for k, value in v.settings.items()))
    shared = "reading and pooling, shared by all papers"
    records = {kind.name: kind.Options, shared: Reading, "training": TrainConfig, "the tiny encoder": TinyConfig}
    for title, record in records.items():
        lines += ["", f"settings of {title} (--set KEY=VALUE):"]
        for f in fields(record):
            lines.append(f"  {f.name:<18} {f.metadata['help']}")
            lines.append(f"  {'':<18}   {kind_of(record, f.name)}, default {f.default}")
    return "\n".join(lines)
