# sparkml: `make help` lists what there is. Every target that needs the environment makes it first.

# The first that everything runs on; another one: make setup PYTHON=python3.12
FITS = -c 'import ensurepip, sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.10; do $$p $(FITS) && echo $$p && exit; done; echo python3)
BIN := .venv/bin
# Another lake for the demo: make demo LAKE=/data/lake
LAKE ?=

.DEFAULT_GOAL := help
.PHONY: help setup s3 kafka demo test test-slow check check-style check-kernels check-units bundle format lock wheel zip env clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

setup: ## Make .venv: exact packages, torch, Horovod, the Delta jars (skips what is done)
	@$(PYTHON) -B tools/setup

s3: ## The set-up with the jars for s3a:// lakes
	@$(PYTHON) -B tools/setup --s3

kafka: ## The set-up with the jars for streams from Kafka
	@$(PYTHON) -B tools/setup --kafka

demo: setup ## A whole pipeline on the documentation of the installed Python: ingest to report
	@$(BIN)/sparkml run-all --env local $(if $(LAKE),lake=$(LAKE))

test: setup ## All the tests but the slow ones, in two processes
	@$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: ## The slow tests, with servers (S3, HDFS, Kafka) and a cluster of processes: by hand and before a release
	@$(PYTHON) -B tools/setup --s3 --kafka --slow
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --group slow
	@$(BIN)/python -m pytest -m "" tests/slow
	@$(BIN)/python -m pytest -m rare

check: setup ## Format, lint, types, import contracts, unit tests: within a minute
	@$(MAKE) --no-print-directory -j2 --output-sync=target check-kernels check-units check-style

check-style:
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check-kernels:
	@$(BIN)/python -m pytest tests/unit/kernels -p no:cacheprovider

check-units:
	@$(BIN)/python -m pytest tests/unit --ignore=tests/unit/kernels

bundle: setup ## conf/databricks/jobs.yml from the default pipeline
	@$(BIN)/sparkml bundle > conf/databricks/jobs.yml.new && mv conf/databricks/jobs.yml.new conf/databricks/jobs.yml

format: setup ## Format the code and repair what the linter can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: ## Resolve requirements.lock from pyproject.toml (UPGRADE=1: newest versions)
	@$(PYTHON) -B tools/setup --lock $(if $(UPGRADE),--upgrade)

wheel: setup ## dist/sparkml-VERSION-py3-none-any.whl
	@rm -rf dist
	@$(BIN)/python -m hatchling build --target wheel --directory dist

zip: wheel ## dist/sparkml-VERSION.zip: the wheel's bytes for spark-submit --py-files
	@for wheel in dist/sparkml-*-py3-none-any.whl; do cp "$$wheel" "$${wheel%-py3-none-any.whl}.zip"; done; ls dist/*.zip

# Executors bring Spark's jars themselves, and get sparkml as a zip. TORCH=0: for steps that make and use no model.
LEFT_OUT := pyspark/jars *sparkml* $(if $(filter 0,$(TORCH)),torch torchgen functorch triton nvidia cuda horovod)
DIST ?= dist
env: setup ## dist/env.tar.gz: the environment for spark-submit --archives (TORCH=0: without torch, for a curation)
	@mkdir -p $(DIST)
	@tar -C .venv $(foreach name,$(LEFT_OUT),--exclude='lib/python*/site-packages/$(name)') \
	    -czf $(DIST)/.env.part pyvenv.cfg bin lib && mv $(DIST)/.env.part $(DIST)/env.tar.gz
	@ls -lh $(DIST)/env.tar.gz

clean: ## Remove what was built here; the lake, the environment and the cache stay
	rm -rf dist build .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis spark-warehouse metastore_db derby.log
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
