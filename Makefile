# Everything runs in .venv, which the first target that needs it creates.
# Another interpreter (3.11 or newer):  make PYTHON=python3.13 test

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# What users install; what contributors need comes on top of it.
SMALL  := $(VENV)/.ready-small
READY  := $(VENV)/.ready
# The benchmarks' peers are many and pinned, so they have an environment of their own.
BENCH_VENV := .venv-bench
BENCH  := $(BENCH_VENV)/.ready
FUZZ   := $(VENV)/.ready-fuzz
SOAK   := $(VENV)/.ready-soak

# Inputs that `make fuzz` gives each target of one process; the others get a part of it.
FUZZ_RUNS ?= 200000
# How often `make conformance` tries every scenario, and whether the cores have something else to do.
ROUNDS ?= 200
BUSY ?=

# What `make soak` takes.
SOAK_MINUTES ?= 8
SOAK_SEED ?= 1

# How many faults `make mutants` makes.
MUTANTS ?= 300

# The processes that the tests run in: one more than there are cores, for many tests wait for another process or for a time to
# pass. With WORKERS=0 they run in pytest's own.
WORKERS ?= $(shell echo $$(($$(nproc) + 1)))

# Whether `make test` measures coverage, which makes it take half as long again. `.ci/run` does.
COVERAGE ?=

# What `make stress` runs: STRESS='oracle --seed 7' for one part of it; and how much of it.
STRESS ?=
STRESS_ROUNDS ?= 200
ORACLE_OPS ?= 100000

# What `make faults` runs, and where it writes: FAULTS='networks --write table.md'; everything by default.
FAULTS ?=

# What `make faults-services` runs: FAULTS_SERVICES='sqlite --size 0.1'; everything by default.
FAULTS_SERVICES ?=

# What `make attacks` runs: ATTACKS='cancels pings --runs 1'; everything, five times, by default.
ATTACKS ?=

# The tests start hundreds of processes: they keep what Python compiles, even where the environment says that it shall not be
# kept, or each process would spend half of its time on compiling again.
unexport PYTHONDONTWRITEBYTECODE

PROTOCOL := duplex/protocol/*,duplex/codec/*,duplex/transports/zmtp/*

# What every environment needs of the interpreter that creates it.
define CHECK_PYTHON
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
    echo "Duplex needs Python 3.11 or newer; name one with: make PYTHON=python3.11 ..." >&2; exit 1; }; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
    echo "$(PYTHON) cannot create virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; \
    exit 1; }
endef

# Shows what it fetches, a line each, so that nobody waits in front of a silent terminal.
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-long mutants check format bench features bench-check bench-baseline conformance fuzz soak stress faults \
    faults-services attacks coverage-protocol clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

demo: $(SMALL) ## run the demonstration
	@$(BIN)/python examples/demo.py

test: $(READY) ## run the tests; with COVERAGE=1, coverage below 95 % (wire and codec: 100 %) fails
	@$(BIN)/coverage erase
	@began=$$(date +%s); \
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(if $(COVERAGE),--cov --cov-report=term) $(ARGS) \
	    $(if $(COVERAGE),&& $(MAKE) --no-print-directory coverage-protocol); \
	code=$$?; took=$$(($$(date +%s) - began)); \
	echo "make test took $$((took / 60)) min $$((took % 60)) s"; exit $$code

test-long: $(READY) ## the same tests with more of everything that they draw by lot: half an hour
	@DUPLEX_TESTS=long DUPLEX_HYPOTHESIS=5 $(MAKE) --no-print-directory test

mutants: $(READY) ## make MUTANTS small faults in the engine and the protocol; tests must notice 95 % of them
	@$(BIN)/python -m tests.mutants --sample $(MUTANTS) $(ARGS)

coverage-protocol: $(READY) ## ask full coverage of the wire and the codecs, of the last `make test COVERAGE=1`
	@echo "coverage of duplex.protocol, duplex.codec and duplex.transports.zmtp, which must be 100 %:"
	@$(BIN)/coverage report --include='$(PROTOCOL)' --fail-under=100

check: $(READY) ## check format, lint and types
	@echo "ruff format"; $(BIN)/ruff format --check .
	@echo "ruff check";  $(BIN)/ruff check .
	@echo "mypy";        $(BIN)/mypy

format: $(READY) ## format the code and repair what ruff can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(BENCH) ## run the benchmarks: half an hour; make bench ARGS=--quick takes some minutes
	@$(BENCH_VENV)/bin/python -m benchmarks $(ARGS)

features: $(BENCH) ## compare the tables of docs/comparison.md with what the libraries do: a minute
	@$(BENCH_VENV)/bin/python -m benchmarks.features $(ARGS)

bench-check: $(BENCH) ## fail if calls take more instructions than in the kept baseline (needs valgrind)
	@$(BENCH_VENV)/bin/python -m benchmarks check $(ARGS)

bench-baseline: $(BENCH) ## renew that baseline
	@$(BENCH_VENV)/bin/python -m benchmarks baseline $(ARGS)

conformance: $(READY) ## try our own peer in both roles, ROUNDS times, every scenario; BUSY=1 loads the cores
	@$(BIN)/python -m tests.conformance.rounds --rounds $(ROUNDS) $(if $(BUSY),--busy)

fuzz: $(FUZZ) ## fuzz the protocol, the codecs and a live peer with FUZZ_RUNS inputs
	@$(BIN)/python -m tests.fuzz --runs $(FUZZ_RUNS)

soak: $(SOAK) ## mixed load and faults for SOAK_MINUTES; memory must stay flat
	@$(BIN)/python -m tests.soak --minutes $(SOAK_MINUTES) --seed $(SOAK_SEED) \
	    --plot soak-results/memory.png --json soak-results/summary.json

stress: $(READY) ## tests over bad wires, examples again and again, and ORACLE_OPS calls that are all accounted for
	@$(BIN)/python -m tests.stress --rounds $(STRESS_ROUNDS) --operations $(ORACLE_OPS) $(STRESS)

faults: $(READY) ## do harm to real processes and networks, and print what came of it (root)
	@$(BIN)/python -m tests.faults $(FAULTS)

faults-services: $(READY) ## do harm to real stores, and print what came of it: half an hour
	@$(BIN)/python -m tests.services.faults $(FAULTS_SERVICES)

attacks: $(READY) ## attack a peer in every way that is known, and print what came of it: five minutes, on a quiet machine
	@$(BIN)/python -m tests.attacks $(ATTACKS)

clean: ## remove .venv, .venv-bench and everything generated
	@rm -rf $(VENV) $(BENCH_VENV) soak-results fuzz-found .mutants build dist htmlcov .coverage .coverage.* \
	    .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(SMALL): pyproject.toml
	@$(CHECK_PYTHON)
	@echo "preparing $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) -e '.[numpy]'
	@touch $@

$(READY): $(SMALL)
	@echo "installing what tests and checks need"
	@$(INSTALL) -e '.[test]'
	@touch $@

$(BENCH): pyproject.toml
	@$(CHECK_PYTHON)
	@echo "preparing $(BENCH_VENV), with what the benchmarks compare with"
	@$(PYTHON) -m venv $(BENCH_VENV)
	@$(BENCH_VENV)/bin/python benchmarks/_install.py
	@command -v nats-server >/dev/null || test -x /usr/sbin/nats-server || \
	    echo "nats-server is missing, and its peer with it; on Debian and Ubuntu: apt-get install nats-server" >&2
	@touch $@

$(FUZZ): $(READY)
	@echo "installing the fuzzer"
	@$(INSTALL) -e '.[fuzz]'
	@touch $@

$(SOAK): $(READY)
	@echo "installing what draws the memory"
	@$(INSTALL) -e '.[soak]'
	@touch $@
