# Two commands on a fresh machine: `make gate` and `make test`. Both set everything up first.
PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python -m

# Nothing is ever downloaded at run time, nor installed behind the user's back.
export YOLO_OFFLINE := true
export YOLO_AUTOINSTALL := false
# What one process has compiled no other compiles again; there are hundreds in the tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: gate test test-ray bench lint typecheck format clean

gate: $(VENV)/.ready
	$(RUN) pytest -m smoke -q

test: $(VENV)/.ready
	$(RUN) pytest -n 2 -q
	$(MAKE) test-ray

# With a Ray cluster of two nodes.
test-ray: $(VENV)/.ready
	$(RUN) pytest -q -m ray tests/plugin/test_ray.py

# One JSON line each; half an hour on two cores. Ratios hold, seconds are this machine's.
BENCH := $(VENV)/bin/python benchmarks
bench: $(VENV)/.ready
	$(BENCH)/collect.py
	$(BENCH)/harness.py
	$(BENCH)/workers.py
	$(BENCH)/workers.py --project full --n 64 --rounds 1
	$(BENCH)/verify_limits.py --project demo
	$(BENCH)/verify_limits.py --project full --n 128
	$(BENCH)/peers.py --project full --n 128
	$(BENCH)/full_size.py
	$(BENCH)/service.py
	$(BENCH)/ray_scaling.py

lint: $(VENV)/.ready
	$(RUN) ruff check .
	$(RUN) ruff format --check .

typecheck: $(VENV)/.ready
	$(RUN) mypy

format: $(VENV)/.ready
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

clean:
	rm -rf $(VENV) exp

# The mark is only set when everything is in place, so an interrupted set-up starts again. It holds what
# the set-up was of: a checkout is newer than an environment that CI has kept, and may be the same.
SETUP := $(shell cat pyproject.toml constraints.txt | sha256sum | cut -c 1-64)
ifneq ($(shell cat $(VENV)/.ready 2>/dev/null),$(SETUP))
.PHONY: $(VENV)/.ready
endif
$(VENV)/.ready:
	$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"pillsnap needs Python 3.11 or newer, this is {v[0]}.{v[1]}: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
	echo $(SETUP) > $@
