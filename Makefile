# Every target makes the environment that it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo zoo bases bench-small test test-slow check speed fuzz clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       finetune hundreds of LoRAs, learn on them, print the table (about 8 minutes)"
	@echo "make zoo        the whole collection: 12,946 LoRAs in 17 zoos (resumable, about an hour)"
	@echo "make bases      the tiny base models, from scratch, in build/bases"
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

BASES := build/bases
bases: .venv/installed
	for model in qwen llama; do \
	  first=$(BASES)/exam-$$model; exam="$(BIN)/python -m lorascope.zoo.bases.exam"; \
	  $$exam first $$first --model $$model && \
	  $$exam second $$first-second --model $$model --first $$first && \
	  $$exam control $$first-control --model $$model --first $$first || exit 1; \
	done
	$(BIN)/python -m lorascope.zoo.bases.faces first $(BASES)/faces --work $(BASES)/work
	$(BIN)/python -m lorascope.zoo.bases.faces second $(BASES)/faces-second --first $(BASES)/faces
	$(BIN)/python -m lorascope.zoo.bases.faces control $(BASES)/faces-control --first $(BASES)/faces --seed 1

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
