# Every target makes the environment that it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo zoo bases bench-small test test-slow check speed fuzz clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       finetune hundreds of LoRAs, learn on them, print the table (about 4 minutes)"
	@echo "make zoo        the whole collection: 12,946 LoRAs in 17 zoos (resumable, less than an hour)"
	@echo "make bases      the tiny base models, from scratch, in build/bases (resumable)"
	@echo "make bench-small  the reduced benchmark, with the zoos that it needs"
	@echo "make test       the unit tests (under 10 minutes)"
	@echo "make test-slow  the long learning and scale tests"
	@echo "make check      format, lint, types, import fences"
	@echo "make fuzz       fuzz the readers for 10 minutes (SECONDS=60 for one)"
	@echo "make speed      the timing scripts, as ratios"

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

demo: .venv/installed
	$(BIN)/lorascope demo

zoo: .venv/installed
	$(BIN)/lorascope zoo collection

# each base is one target, so that a run that was stopped goes on where it was: its last file says that it is done
BASES := build/bases
EXAM := $(BIN)/python -m lorascope.zoo.bases.exam
FACES := $(BIN)/python -m lorascope.zoo.bases.faces
FIRST := $(BASES)/exam-qwen/README.md $(BASES)/exam-llama/README.md
OTHERS := $(foreach name,second control,$(FIRST:/README.md=-$(name)/README.md))
bases: $(OTHERS) $(BASES)/faces-second/base.json $(BASES)/faces-control/base.json

$(FIRST): $(BASES)/exam-%/README.md: | .venv/installed
	$(EXAM) first $(@D) --model $*

$(filter %-second/README.md,$(OTHERS)): $(BASES)/exam-%-second/README.md: $(BASES)/exam-%/README.md
	$(EXAM) second $(@D) --model $* --first $(<D)

$(filter %-control/README.md,$(OTHERS)): $(BASES)/exam-%-control/README.md: $(BASES)/exam-%/README.md
	$(EXAM) control $(@D) --model $* --first $(<D)

$(BASES)/faces/base.json: | .venv/installed
	$(FACES) first $(@D) --work $(BASES)/work

$(BASES)/faces-second/base.json: $(BASES)/faces/base.json
	$(FACES) second $(@D) --first $(<D) --work $(BASES)/work-second

$(BASES)/faces-control/base.json: $(BASES)/faces/base.json
	$(FACES) control $(@D) --first $(<D) --work $(BASES)/work-control --seed 1

bench-small: .venv/installed
	$(BIN)/lorascope bench run --suite small --out bench-small

# one process a core, each with one thread: threads that wait for each other cost more than they bring here
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup \
	  -m "not slow and not gpu" --cov=lorascope --cov-report=term

test-slow: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,cluster]'
	$(BIN)/python -m pytest -m slow

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: .venv/installed
	-$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,fuzz]'
	$(BIN)/python -m fuzz --seconds $(or $(SECONDS),600)

speed: .venv/installed
	$(BIN)/python -m speed

clean:
	rm -rf .venv demo build bench-small
