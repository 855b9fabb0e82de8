# Two commands are enough: `make book` and `make test`. Both prepare .venv themselves.
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PORT ?= 8000

# One thread per process keeps results and times comparable on every machine; nothing uses the network.
export OMP_NUM_THREADS = 1
export MKL_NUM_THREADS = 1
# Large pages, if Linux has them: a training step requests memory from the system less often.
export GLIBC_TUNABLES = glibc.malloc.hugetlb=1
export TOKENIZERS_PARALLELISM = false
export HF_HUB_OFFLINE = 1
export HF_HUB_DISABLE_PROGRESS_BARS = 1
export TQDM_DISABLE = 1

NOTEBOOKS = $(shell git ls-files -- '*.ipynb')
STRIP_KEYS = metadata.language_info metadata.widgets metadata.colab metadata.accelerator \
	cell.metadata.id cell.metadata.outputId cell.metadata.colab cell.metadata.execution

.PHONY: help book test chapters lint format serve dist models bench clean
help:
	@echo "make book      build the book unless it is up to date: execute the chapters, write _build/html"
	@echo "make test      build the book unless it is up to date, then run the tests, which check its pages too"
	@echo "make chapters  only execute the chapters"
	@echo "make lint      check style, spelling, English, which room imports which, and that notebooks carry no outputs"
	@echo "make format    fix what can be fixed automatically"
	@echo "make serve     show the built book at http://localhost:$(PORT)/"
	@echo "make dist      build sdist and wheel into dist/, and try the wheel in a fresh environment"
	@echo "make models    train the models that come with the package again (one hour)"
	@echo "make bench     run the benchmarks on the embedded corpus again (several hours)"
	@echo "make clean     remove the built book and all caches, but not $(VENV)"

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "docre_lite needs Python 3.11, 3.12 or 3.13; name one: make PYTHON=/path/to/python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[book,test]"
	@touch $@

book: $(READY)
	$(BIN)/python book/build.py

chapters: $(READY)
	$(BIN)/python book/build.py --execute-only

# After the book, because tests check its pages. Distributed by file: the tests of a file share fixtures.
test: book
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(if $(NOTEBOOKS),$(BIN)/nbstripout --keep-id --verify --extra-keys "$(STRIP_KEYS)" $(NOTEBOOKS))
	git ls-files -z -- '*.md' '*.py' '*.ipynb' '*.toml' '*.yml' '*.bib' | xargs -0 $(BIN)/codespell
	$(BIN)/python book/prose.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(if $(NOTEBOOKS),$(BIN)/nbstripout --keep-id --extra-keys "$(STRIP_KEYS)" $(NOTEBOOKS))

serve:
	@test -f _build/html/index.html || { echo "no book yet: run 'make book' first"; exit 1; }
	$(BIN)/python -m http.server --directory _build/html $(PORT)

# -I: neither the checkout nor an environment variable may help the installed package. The environment (1.6 GB)
# remains only after a failure, for inspection.
dist: $(READY)
	rm -rf dist _build/smoke
	$(BIN)/python -m build
	$(BIN)/python -m venv _build/smoke
	_build/smoke/bin/python -m pip install --disable-pip-version-check --quiet -c constraints.txt dist/*.whl
	_build/smoke/bin/python -I tests/smoke.py
	rm -rf _build/smoke
	@ls -l dist

models: $(READY)
	$(BIN)/python benchmarks/models.py

bench: $(READY)
	$(BIN)/docre-lite bench run lite
	$(BIN)/python benchmarks/corpus.py
	$(BIN)/python benchmarks/frozen.py
	set -e; for file in benchmarks/corpus_*.py; do echo "$$file"; $(BIN)/python $$file; done

clean:
	rm -rf _build .pytest_cache .ruff_cache .hypothesis dist
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
