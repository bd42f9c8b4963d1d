# make run     the app, at the address that it prints
# make test    all tests (chromium and the default model are fetched where that is possible)
# make check   lint, format and types
# make gpu-check   the tests that need an accelerator
# make clean   removes what tools leave behind; .venv and the fetched models stay
# PYTHON=python3.12 chooses the Python that .venv is made with (3.11 or later).
PYTHON ?= python3
export PYTHON

.PHONY: run test check gpu-check clean

run:
	@scripts/setup requirements.txt
	@.venv/bin/python -m sleepviz run

test:
	@scripts/setup requirements.txt requirements-dev.txt
	@scripts/test

check:
	@scripts/setup requirements.txt requirements-dev.txt
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

gpu-check:
	@scripts/setup requirements.txt requirements-dev.txt
	.venv/bin/python -m pytest tests -m gpu -rs

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
