# Needs Python 3.11 to 3.13 with its venv module, and make. Everything else comes from requirements.lock into .venv.
#
#   make run                  everything up, group btc-core from candles to calibrated models, until Ctrl-C
#   make run UI=0             the same, and stop once the result is shown
#   make run MARKET=binance ARCHIVE=<folder or URL> AS_OF=2025-09-01 CRYPTOS=BTCUSDT,ETHUSDT
#   make discovery            the same with discovery in place of the chain: from candles to a verdict, and a challenger if any
#   make chart                the chart linted, rendered and judged; VALUES="a.yaml b.yaml" judges a deployment's own values
#   make test | smoke | lint | bench | dashboards | image | image-check | sbom | lock | clean

PYTHON ?= python3
MARKET ?= simulated
UI ?= 1
ARCHIVE ?=
AS_OF ?=
CRYPTOS ?=
GROUP ?=
VALUES ?=

SHELL := /bin/sh
BIN := .venv/bin
INSTALLED := .venv/installed
# A PYTHONPATH from outside would put other code before the locked packages.
unexport PYTHONPATH

comma := ,
market = --market $(MARKET) $(if $(ARCHIVE),--archive '$(ARCHIVE)') $(if $(AS_OF),--as-of $(AS_OF))
cryptos = $(if $(GROUP),--group $(GROUP)) $(foreach crypto,$(subst $(comma), ,$(CRYPTOS)),--crypto $(crypto))

.PHONY: run discovery test smoke lint bench dashboards chart image image-check sbom lock clean

run: $(INSTALLED)
	@$(BIN)/cvntrade up --run $(if $(filter 0,$(UI)),--exit-when-done) $(cryptos) $(market)

discovery: $(INSTALLED)
	@$(BIN)/cvntrade up --run --pipeline discovery $(if $(filter 0,$(UI)),--exit-when-done) $(cryptos) $(market)

# A file at a time. Four processes, because nearly half of the time a test waits for PostgreSQL or for a process that it
# started; two for the live tests, each with a stack of its own. What takes longest is told at the end.
test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --durations 20 --durations-min 5 --ignore tests/live
	$(BIN)/python -m pytest tests/live --numprocesses 2 --dist loadfile --durations 20 --durations-min 5 --no-loadscope-reorder

smoke: $(INSTALLED)
	$(BIN)/cvntrade smoke

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy cvntrade_assets asset_checks resources helm
	$(BIN)/deptry .

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

# Grafana's dashboards, from helm/dashboards into the chart's files.
dashboards: $(INSTALLED)
	$(BIN)/python -m helm.dashboards

# Copies into the chart's files, then everything that must hold of it with each set of values.
chart: $(INSTALLED)
	@$(BIN)/python -m helm.chart $(VALUES)

# The container image, and whether it is what it has to be; the same without Docker, in a root filesystem like the image's.
IMAGE ?= cvntrade:dev
image:
	docker build --target check .
	docker build --target image --tag $(IMAGE) .

image-check: $(INSTALLED)
	image/check.sh $(BIN)/python

# What the image installs, as CycloneDX, in build/.
sbom: $(INSTALLED)
	mkdir -p build
	$(BIN)/python image/sbom.py $(BIN)/python build/sbom.cdx.json

# No registry stands in the files: whoever installs uses their own. xgboost trains on the CPU without NVIDIA's library.
# The image's packages, and the tools that build it, are taken out of the same lock: tests hold them together.
LOCKED := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-package nvidia-nccl-cu12 --quiet
COMPILE := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile $(LOCKED)
lock: $(INSTALLED)
	echo setuptools | $(COMPILE) pyproject.toml - --all-extras --group dev --output-file requirements.lock
	$(COMPILE) pyproject.toml --constraints requirements.lock --output-file requirements-image.lock
	printf 'uv\nsetuptools\ncyclonedx-bom\n' | $(COMPILE) - --constraints requirements.lock --output-file requirements-build.lock

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@echo "Data stays in .cvntrade; remove that folder to begin with an empty database."

# pip brings uv, checked against the lock; uv installs the rest of it in a fraction of pip's time, from the same index,
# whose address may hold credentials: an argument is seen in `ps`.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and \
		f"CVNTrade needs Python 3.11 to 3.13 and {sys.executable} is {sys.version.split()[0]}: make PYTHON=python3.11")'
	$(PYTHON) -m venv --clear .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/bootstrap.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/bootstrap.lock
	index=$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null)}; \
	[ -z "$$index" ] || export UV_DEFAULT_INDEX="$$index"; \
	$(BIN)/uv pip install --quiet --python $(BIN)/python \
		--compile-bytecode --require-hashes --no-deps -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --offline --no-build-isolation --no-deps --editable .
	# Every run is a process of its own, and would compile our modules again where Python may not write beside them.
	$(BIN)/python -m compileall -q cvntrade_assets asset_checks resources
	@touch $@
