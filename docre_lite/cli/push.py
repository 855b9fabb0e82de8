"""`docre-lite push`: puts a trained model on the hub, with a card."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from .options import Model, model_folder, show


def push(
    run: Model,
    to: Annotated[str, Option(help="its name on the hub; made if there is none", metavar="USER/NAME")],
    license: Annotated[
        str | None, Option(help="as the hub abbreviates it, such as mit (default: the card calls it not stated)")
    ] = None,
    private: Annotated[bool, Option("--private", help="only you may see it (default: as your account has it)")] = False,
) -> None:
    """Put a trained model on the hub, with a card made from its training. Log in first: `hf auth login`."""
    from ..model import DocRE

    model = DocRE.load(model_folder(run))
    commit = model.push_to_hub(to, license=license, private=private or None)
    show({"model": to, "revision": commit.oid, "address": commit.commit_url})
