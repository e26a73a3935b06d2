# The commands that users and CI share. `make` alone lists them.
.DEFAULT_GOAL := help
CARGO ?= cargo
BINARIES := -p warmq-router -p warmq-worker -p warmq-cli -p warmq-demo
SCRIPTS := .ci/run $(wildcard deploy/*.sh)

.PHONY: help setup setup-test build demo up down test fuzz lint deny bench bench-routing bench-replay bench-routes bench-faults bench-gpu build-cuda chaos clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## RabbitMQ, Redis, libtorch, build tools: installs what is missing
	@deploy/setup.sh

setup-test: ## setup, cargo-nextest, fal's clients for Python and JavaScript, and schemathesis
	@deploy/setup.sh build services test

build: ## router, workers, command line and demo, optimised, into target/release
	@deploy/setup.sh build
	$(CARGO) build --release $(BINARIES)

demo: setup ## from a fresh clone: real jobs on a router and two workers; pictures into out/demo
	$(CARGO) build --release $(BINARIES)
	target/release/warmq-demo

up: setup ## a router and two workers that stay running (logs and process ids in .run)
	$(CARGO) build --release $(BINARIES)
	@deploy/up.sh

down: ## stops what `make up` started
	@deploy/down.sh

# The integration tests start the binaries, which nextest alone would not build; built with all targets, they share the
# tests' dependencies. nextest's summary comes last.
test: setup-test ## every test, against the real RabbitMQ and Redis
	$(CARGO) build --workspace --all-targets
	$(CARGO) test --workspace --doc
	$(CARGO) nextest run --workspace

fuzz: setup-test ## makes up thousands of requests from /openapi.json and checks every answer; ARGS="--seed 7 --examples 200"
	$(CARGO) build -p warmq-router -p warmq-worker -p warmq-tests
	target/debug/warmq-fuzz $(ARGS)

# On a developer's machine what is missing is named and left out; in CI (CI=true) it is installed, so that nothing is.
lint: ## formatting, clippy without warnings, shellcheck, cargo-deny
	@deploy/setup.sh build $(if $(CI),lint)
	@$(CARGO) fmt --version >/dev/null 2>&1 || { echo 'lint: rustfmt is missing: rustup component add rustfmt'; exit 1; }
	@$(CARGO) clippy --version >/dev/null 2>&1 || { echo 'lint: clippy is missing: rustup component add clippy'; exit 1; }
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@if command -v shellcheck >/dev/null; then echo shellcheck $(SCRIPTS); shellcheck -x $(SCRIPTS); \
	else echo 'lint: NOT CHECKED: shell scripts (no shellcheck; `deploy/setup.sh lint` installs it)'; fi
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(MAKE) --no-print-directory deny; \
	else echo 'lint: NOT CHECKED: licences and advisories (no cargo-deny; `deploy/setup.sh lint` installs it)'; fi

deny: ## licences, bans and sources of every dependency; advisories, if their list can be fetched
	@$(CARGO) deny --version >/dev/null 2>&1 || deploy/setup.sh lint
	$(CARGO) deny --workspace check bans licenses sources
	@if timeout 120 $(CARGO) deny --workspace fetch db; then $(CARGO) deny --workspace check --disable-fetch advisories; \
	else echo 'deny: NOT CHECKED: advisories (their list can not be fetched from here)'; fi

chaos: setup ## kills, freezes and cuts off everything while jobs run, and accounts for each; SEEDS=20, or SEED=7 alone
	$(CARGO) build --release -p warmq-router -p warmq-worker -p warmq-tests
	target/release/warmq-chaos $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),20)) $(ARGS)

bench: ## the warm policy against its targets, on a virtual clock
	$(CARGO) run --release -p warmq-bench -- table

bench-routing: ## every policy against the targets and the pooled bound, what a decision costs, and the charts of docs/routing-policy.md
	$(CARGO) build --release -p warmq-bench
	target/release/warmq-bench table --policy shared,fal,multiplex,hash,lard,warm
	target/release/warmq-bench scaling
	target/release/warmq-bench curves

bench-replay: setup ## the simulator against the real thing, about 15 min; ARGS="--only fal" for some cases
	$(CARGO) build --release -p warmq-router -p warmq-worker -p warmq-bench
	target/release/warmq-bench replay $(ARGS)

bench-routes: setup ## what a route costs: per submission, between steps, in throughput; about 3 min; ARGS="--flows 200 --step-ms 2000"
	$(CARGO) build --release -p warmq-router -p warmq-worker -p warmq-bench
	target/release/warmq-bench routes $(ARGS)

bench-faults: setup ## what one bad runner of four costs in throughput; about 4 min; ARGS="--jobs 200 --run-ms 300"
	$(CARGO) build --release -p warmq-router -p warmq-worker -p warmq-bench
	target/release/warmq-bench faults $(ARGS)

bench-gpu: build-cuda ## the diffusion engine on an NVIDIA GPU; ARGS="--python .venv/bin/python" sets Python's diffusers beside it
	LIBTORCH=$(CURDIR)/.libtorch-cuda $(CARGO) run --release --target-dir target/cuda -p warmq-diffusion --example bench_gpu -- $(ARGS)

build-cuda: ## the worker for NVIDIA GPUs, into target/cuda/release (fetches 2.5 GB once)
	@deploy/setup.sh build
	@deploy/setup-libtorch.sh --cuda
	LIBTORCH=$(CURDIR)/.libtorch-cuda $(CARGO) build --release --target-dir target/cuda -p warmq-worker

clean: down ## removes what was built and produced; keeps libtorch
	$(CARGO) clean
	rm -rf out .run
