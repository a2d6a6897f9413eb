# One command each: build, check, test, bench. Needs Rust, Node.js and a C compiler; says what else it fetches.
# What a build prints goes to standard error, so that `make quickstart ARGS="--json"` leaves one document on standard
# output.

CARGO ?= cargo
BINARY := target/release/homeostat
DASHBOARD_SOURCES := $(shell find dashboard/src dashboard/index.html dashboard/package-lock.json dashboard/vite.config.ts dashboard/tsconfig.json -type f 2>/dev/null)

.PHONY: build quickstart test services check bench bench-serving bench-learning bench-features parity year fmt clean python onnxruntime

# The whole workspace with its tests at once: cargo then compiles each outside crate once, for everything.
build: dashboard/dist/assets onnxruntime
	@echo "building (crates come through cargo; the first time takes 10 to 20 minutes on two cores)" >&2
	@$(CARGO) build --release --workspace --all-targets --locked 1>&2

dashboard/dist/assets: $(DASHBOARD_SOURCES)
	@echo "building the dashboard (its packages come through npm)" >&2
	@cd dashboard && npm ci --ignore-scripts --no-audit --no-fund 1>&2 && npm run build 1>&2
	@touch dashboard/dist/assets

# The library that runs imported ONNX models which our own kernels don't; through npm.
onnxruntime:
	@sh scripts/onnxruntime.sh

quickstart: build
	@$(BINARY) quickstart $(ARGS)

# The real servers and clients that the tests use.
services:
	@sh scripts/services.sh
	@sh scripts/python.sh

python:
	@sh scripts/python.sh

test: build
	@sh scripts/test.sh

check: dashboard/dist/assets
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings
	$(CARGO) run --release --quiet --package xtask -- tidy
	cd dashboard && npm run check
	@if command -v cargo-deny >/dev/null 2>&1; then cargo deny check licenses bans sources; \
	else echo "skipped: cargo-deny is not installed (cargo install cargo-deny); licences are not checked"; fi

bench: build python
	@sh benches/run.sh

# Side by side with the peers, which come through pip; an hour or more.
bench-serving: build
	@sh benches/serving/setup.sh
	@benches/serving/.venvs/models/bin/python benches/serving/run.py $(ARGS)

# Each learner beside its peers, which come through pip; a night with the tuned ones (ARGS="--only trees" for a part).
bench-learning: build
	@sh benches/learning/setup.sh
	@benches/learning/.venv/bin/python benches/learning/run.py $(ARGS)

# Pipeline, validation, windows and joins beside their peers, which come through pip; half an hour.
bench-features: build
	@sh benches/features/setup.sh
	@benches/features/.venv/bin/python benches/features/run.py $(ARGS)

# The release gate of the pipeline: 10 million odd rows as a batch and one by one; no bit may differ.
parity: build
	@sh benches/features/parity.sh $(ARGS)

# The whole year of flights against what it promises; 5 to 10 minutes, twice that with ARGS=--twice.
year: build
	@python3 benches/year.py $(ARGS)

fmt:
	$(CARGO) fmt --all

clean:
	$(CARGO) clean
	rm -rf dashboard/dist dashboard/node_modules engines/node_modules .venv .venv-perf .venv-onnx .venv-openapi
