# Every target installs what it needs by itself: `make demo` in an empty clone is enough.
# The default Python is python3; another: make demo PYTHON=python3.12

PYTHON ?= python3
BIN    := .venv/bin
READY  := .venv/.ready
QUIET  := -qq --disable-pip-version-check

export OMP_NUM_THREADS = 1

.PHONY: demo test check bench bench-full examples clean

demo: $(READY)            ## real predictions explained, a removal predicted and verified, a report
	@$(BIN)/dataloupe demo

test: $(READY)            ## every test, every example in a docstring
	@$(BIN)/pytest -n 2 --doctest-modules src tests

check: $(READY)           ## form, types, floors
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/mypy --config-file bench/mypy.ini bench/*.py
	@$(BIN)/pytest -q tests/test_floors.py

bench: $(READY)           ## the table of numbers, the quick tier (minutes)
	@$(BIN)/python bench/run.py

bench-full: $(READY)      ## the same, the full tier
	@$(BIN)/python bench/run.py --full

examples: $(READY)        ## five case studies of how two algorithms differ; language, encoder, CLIP, diffusion: who predicts retraining
	@$(BIN)/python bench/modeldiff.py
	@for one in language encoder clip; do $(BIN)/python bench/modalities.py --quick --only $$one || exit 1; done
	@$(BIN)/python bench/diffusion.py --quick

clean:                    ## the environment and what was made with it
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache dataloupe-demo

$(READY): pyproject.toml constraints.txt
	@echo "dataloupe: making .venv with $(PYTHON)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "dataloupe: installing (the first time takes a minute or two)"
	@$(BIN)/pip install $(QUIET) -c constraints.txt -e ".[dev]"
	@echo "dataloupe: ready"
	@touch $@
