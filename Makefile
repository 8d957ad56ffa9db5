# `make demo` and `make test` need Python 3.11 or newer and nothing else; the environment is made in .venv.
PYTHON ?= python3
BIN := .venv/bin
# One thread a test process: two run side by side.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

PIP := -m pip install --quiet --disable-pip-version-check

.PHONY: help env demo test test-all test-untyped test-lowest lint docs words notebooks bench release-check clean
help:
	@echo "make demo      trains softmax, label smoothing and DropMax on 1,797 digits (minutes)"
	@echo "make test      environment, lint, types, docs, tests (minutes)"
	@echo "make test-all  what needs a compiler or longer: inductor, planted faults, the wheel; the coverage; lowest versions"
	@echo "make docs      the documentation site, in site/"
	@echo "make words     how the pages read: lengths of sentences, numbers in paragraphs"
	@echo "make notebooks  executes the notebooks of examples/ and writes their outputs"
	@echo "make release-check  builds the distributions, and tries each extra in a new environment"
	@echo "make bench     the benchmarks; rewrites benchmarks/results/, their tables and figures"

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dropmax needs Python 3.11 or newer, got " + sys.version.split()[0] + "; run make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

.venv/.train: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python $(PIP) --constraint constraints.txt --editable '.[train]'
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python $(PIP) 'pip>=25.1'
	$(BIN)/python $(PIP) --constraint constraints.txt --editable '.[onnx,text,transformers]' --group dev
	@touch $@ .venv/.train

env: .venv/.dev

demo: .venv/.train
	$(BIN)/dropmax compare --data digits --protocol paper --split half --seeds 5 --jobs 2 --out demo

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: env
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open $(CURDIR)/site/index.html in a browser; it needs no server and no network."

words: env
	$(BIN)/python -m studies.words

notebooks: env
	$(ONE_THREAD) $(BIN)/python -m studies.notebooks

test: lint docs
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadgroup -m 'not slow'

test-all: env
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadgroup -m slow
	$(MAKE) test-untyped
	$(MAKE) test-lowest

# As users run it: no shape is checked by the tests' hook. Prints the coverage and keeps its floor.
# What the hook does not reach is not run twice: processes of their own, and what reads files alone.
HOOKLESS := parallel words site browser repository layers public
test-untyped: env
	UNTYPED=1 $(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadgroup -m 'not slow' --cov \
		$(HOOKLESS:%=--ignore=tests/test_%.py)

# The core and the command on the lowest versions that pyproject.toml allows; torch is that of the constraints.
.venv-lowest/.installed: pyproject.toml constraints.txt tests/floors.py
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python tests/floors.py pyproject.toml > .venv-lowest/floors.txt
	grep '^torch==' constraints.txt >> .venv-lowest/floors.txt
	.venv-lowest/bin/python $(PIP) --constraint .venv-lowest/floors.txt --editable '.[train,onnx]'
	.venv-lowest/bin/python $(PIP) --constraint constraints.txt beartype hypothesis pytest pytest-xdist
	@touch $@

LOWEST := contract heads functional_dropmax exact errors data tables cli
test-lowest: .venv-lowest/.installed
	$(ONE_THREAD) .venv-lowest/bin/python -m pytest -n 2 --dist loadgroup -p no:cacheprovider \
		-m 'not slow' -o filterwarnings=default -W ignore $(LOWEST:%=tests/test_%.py)

# The distributions, built into dist/; the wheel with each extra, in one new environment after the other.
release-check: env
	$(BIN)/python tests/release.py

bench: env
	$(BIN)/python benchmarks/step.py --out benchmarks/results/step.jsonl
	$(BIN)/python benchmarks/predictive.py --out benchmarks/results/predictive.jsonl \
		--figure docs/images/monte_carlo
	$(BIN)/python benchmarks/estimators.py --out benchmarks/results/estimators.jsonl \
		$(if $(DROPMAX_DATA),--data-root $(DROPMAX_DATA))
	$(if $(DROPMAX_DATA),$(BIN)/python benchmarks/few_texts.py --data-root $(DROPMAX_DATA) \
		--out benchmarks/results/few_texts.jsonl)
	$(if $(DROPMAX_DATA),$(BIN)/python benchmarks/defaults.py --data-root $(DROPMAX_DATA) \
		--out benchmarks/results/defaults.jsonl)
	$(if $(DROPMAX_DATA),$(BIN)/python benchmarks/report.py --data-root $(DROPMAX_DATA) \
		--out benchmarks/results/report.jsonl)
	$(if $(DROPMAX_DATA),$(BIN)/python benchmarks/suspects.py --data-root $(DROPMAX_DATA) \
		--out benchmarks/results/suspects.jsonl)
	$(BIN)/python benchmarks/reading.py --out benchmarks/results/reading.jsonl
	$(BIN)/python benchmarks/many_classes.py --out benchmarks/results/many_classes.jsonl \
		--figure docs/images/many_classes
	$(BIN)/python benchmarks/topk.py --out benchmarks/results/topk.jsonl
	$(BIN)/python benchmarks/parallel.py --out benchmarks/results/parallel.jsonl \
		--figure docs/images/many_gpus
	$(BIN)/python -m studies tables

clean:
	rm -rf .venv .venv-lowest .venv-release demo site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
