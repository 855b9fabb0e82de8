"""One file a paper; `docre_lite.model.paper(name)` finds them by looking in this folder."""
