# A fresh machine needs git, make and Python 3.11 or newer; everything else comes from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test acceptance bench lint breaking proto

setup: $(READY)

# The stamp is written last, so that an interrupted setup is done again; a second `make setup` has nothing to do.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: $(PYTHON) is too old; name Python 3.11 or newer with make setup PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
		{ echo "make: $(PYTHON) -m venv failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: .venv has an old Python; remove it and try again" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/loyalty demo

# Each module on one worker, so that what its tests share is made once; in their order, which has what takes long first.
test: setup
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

# What any running stack must do: the one that LOYALTY_ADDRESS and LOYALTY_TOKEN name, else one started for it.
acceptance: setup
	$(BIN)/pytest tests/acceptance

# How fast the ledger is, beside its references (docs/benchmarks.md): FULL=1 adds what takes long.
bench: setup
	$(BIN)/python -m tests.benchmarks $(if $(FULL),--full)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/squawk services/*/sql/migrations/*.sql
	$(BIN)/python protos/generate.py --check
	@image=$$(mktemp --suffix=.binpb) && trap 'rm -f "$$image"' EXIT && \
		$(BIN)/python protos/generate.py --image "$$image" && $(BIN)/buf lint "$$image" --config buf.yaml

# The contract may grow and never break what is out: compared with the newest commit that is older than a day.
BASE ?= $(shell git rev-list -1 --before='1 day ago' HEAD)
breaking: setup
	@if [ -z "$(BASE)" ]; then echo "breaking: no earlier contract to compare with"; exit 0; fi; \
		folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && mkdir "$$folder/before" && \
		git archive "$(BASE)" protos | tar -x -C "$$folder/before" && \
		$(BIN)/python "$$folder/before/protos/generate.py" --image "$$folder/before.binpb" && \
		$(BIN)/python protos/generate.py --image "$$folder/now.binpb" && \
		$(BIN)/buf breaking "$$folder/now.binpb" --against "$$folder/before.binpb" --config buf.yaml

proto: setup
	$(BIN)/python protos/generate.py
