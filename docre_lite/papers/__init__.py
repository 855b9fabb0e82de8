"""One file per paper; `docre_lite.model.paper(name)` finds them by looking in this folder."""
