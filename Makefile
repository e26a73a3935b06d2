# Commands of users and CI. `make` lists them.
.DEFAULT_GOAL := help
CARGO ?= cargo
BINARIES := -p warmq-router -p warmq-worker -p warmq-cli -p warmq-demo
SCRIPTS := .ci/run $(wildcard deploy/*.sh deploy/examples/*.sh)

.PHONY: help setup setup-test build demo up down test test-upgrade fuzz lint deny bench bench-routing bench-shares bench-split bench-replay bench-routes bench-faults bench-growth bench-http bench-peers bench-engine bench-gpu parity build-cuda check-images chaos clean

help: ## lists the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## installs RabbitMQ, Redis, libtorch and build tools, if missing
	@deploy/setup.sh

setup-test: ## setup, and what the tests need: cargo-nextest, Chromium, clients of fal and OpenAI, fal's package with torch (2.5 GB), schemathesis
	@deploy/setup.sh build services test

build: ## builds all programs into target/release
	@deploy/setup.sh build
	$(CARGO) build --release $(BINARIES)

demo: setup ## runs jobs on a router and two workers; pictures in out/demo
	$(CARGO) build --release $(BINARIES)
	target/release/warmq-demo

up: setup ## starts a router and two workers (logs and process ids in .run)
	$(CARGO) build --release $(BINARIES)
	@deploy/up.sh

down: ## stops the processes of `make up`
	@deploy/down.sh

# The integration tests start the binaries, which nextest alone would not build. Built with all
# targets, they share the dependencies of the tests.
test: setup-test ## runs all tests, on real RabbitMQ and Redis
	$(CARGO) build --workspace --all-targets
	$(CARGO) test --workspace --doc
	$(CARGO) nextest run --workspace

# In a worktree and a target folder of their own, so that neither build replaces the other's parts.
test-upgrade: setup-test ## replaces the programs of another build by this one's under load; PREVIOUS=<git ref>
	@test -n "$(PREVIOUS)" || { echo 'test-upgrade: name the other build: make test-upgrade PREVIOUS=<git ref>'; exit 1; }
	@git worktree remove --force target/previous/source 2>/dev/null || true
	git worktree add --force --detach target/previous/source $(PREVIOUS)
	cd target/previous/source && LIBTORCH=$${LIBTORCH:-$(CURDIR)/.libtorch} CARGO_TARGET_DIR=$(CURDIR)/target/previous/build $(CARGO) build -p warmq-router -p warmq-worker
	git worktree remove --force target/previous/source
	$(CARGO) build --workspace --all-targets
	WARMQ_PREVIOUS=$(CURDIR)/target/previous/build/debug $(CARGO) nextest run --workspace -E 'test(/a_rolling_restart/)'

fuzz: setup-test ## fuzzes the HTTP API by its OpenAPI document; ARGS="--seed 7 --examples 200"
	$(CARGO) build -p warmq-router -p warmq-worker -p warmq-tests
	target/debug/warmq-fuzz $(ARGS)

# Tools that are missing are installed in CI (CI=true); elsewhere their checks are skipped.
lint: ## rustfmt, clippy, shellcheck, promtool, hadolint, compose files, Helm chart, cargo-deny
	@deploy/setup.sh build $(if $(CI),lint)
	@$(CARGO) fmt --version >/dev/null 2>&1 || { echo 'lint: rustfmt is missing: rustup component add rustfmt'; exit 1; }
	@$(CARGO) clippy --version >/dev/null 2>&1 || { echo 'lint: clippy is missing: rustup component add clippy'; exit 1; }
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@if command -v shellcheck >/dev/null; then echo shellcheck $(SCRIPTS); shellcheck -x $(SCRIPTS); \
	else echo 'lint: NOT CHECKED: shell scripts (no shellcheck; `deploy/setup.sh lint` installs it)'; fi
	@if command -v promtool >/dev/null; then promtool check rules deploy/monitoring/warmq.rules.yml && promtool test rules deploy/monitoring/warmq.rules.test.yml; \
	else echo 'lint: NOT CHECKED: alert rules (no promtool; `deploy/setup.sh lint` installs it)'; fi
	@if [ -x .venv-lint/bin/hadolint ]; then .venv-lint/bin/hadolint --ignore DL3008 deploy/*.Dockerfile && .venv-lint/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose*.yaml; \
	else echo 'lint: NOT CHECKED: Dockerfiles, compose files (no .venv-lint; `deploy/setup.sh lint` creates it)'; fi
	@helm=.venv-lint/bin/helm; [ -x $$helm ] || helm=$$(command -v helm); \
	if [ -n "$$helm" ] && .venv-lint/bin/python -c 'import tomllib, kubernetes_validate, cloudcoil.models.keda' 2>/dev/null; then .venv-lint/bin/python deploy/check-chart.py "$$helm"; \
	else echo 'lint: NOT CHECKED: Helm chart (no Helm, or no .venv-lint with Python 3.11; `deploy/setup.sh lint` installs them)'; fi
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(MAKE) --no-print-directory deny; \
	else echo 'lint: NOT CHECKED: licences and advisories (no cargo-deny; `deploy/setup.sh lint` installs it)'; fi

deny: ## checks licences, sources and advisories of dependencies
	@$(CARGO) deny --version >/dev/null 2>&1 || deploy/setup.sh lint
	$(CARGO) deny --workspace check bans licenses sources
	@if timeout 120 $(CARGO) deny --workspace fetch db; then $(CARGO) deny --workspace check --disable-fetch advisories; \
	else echo 'deny: NOT CHECKED: advisories (their list cannot be fetched)'; fi

chaos: setup ## injects faults while jobs run, and checks that each ends once; SEEDS=20 or SEED=7
	$(CARGO) build --release -p warmq-router -p warmq-worker -p warmq-tests
	target/release/warmq-chaos $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),20)) $(ARGS)

bench: ## simulates policy warm, and compares it with its targets
	$(CARGO) run --release -p warmq-bench -- table

bench-shares: ## simulates two keys on one fleet, one of which floods it
	$(CARGO) run --release -p warmq-bench -- shares

bench-split: ## simulates fleets of up to 100,000 runners that are split into several apps; ARGS="--drift-s 300"
	$(CARGO) run --release -p warmq-bench -- split $(ARGS)

bench-routing: ## simulates all policies; writes the charts of docs/benchmarks
	$(CARGO) build --release -p warmq-bench
	target/release/warmq-bench table --policy shared,fal,multiplex,hash,lard,warm
	target/release/warmq-bench scaling
	target/release/warmq-bench curves

bench-replay: setup ## compares simulator and real system, about 15 min; ARGS="--only fal"
	$(CARGO) build --release -p warmq-router -p warmq-worker -p warmq-bench
	target/release/warmq-bench replay $(ARGS)

bench-routes: setup ## measures the cost of routes, about 3 min; ARGS="--flows 200 --step-ms 2000"
	$(CARGO) build --release -p warmq-router -p warmq-worker -p warmq-bench
	target/release/warmq-bench routes $(ARGS)

bench-faults: setup ## measures throughput with one faulty runner of four, about 4 min; ARGS="--jobs 200 --run-ms 300"
	$(CARGO) build --release -p warmq-router -p warmq-worker -p warmq-bench
	target/release/warmq-bench faults $(ARGS)

bench-peers: setup .venv-bench-peers/ready dev/bench/peers/node_modules/ready ## measures no-op jobs beside Celery, Dramatiq, RQ and BullMQ, about 25 min; ARGS="--only celery,warmq --slots 1"
	$(CARGO) build --release -p warmq-router -p warmq-worker -p warmq-bench
	target/release/warmq-bench peers $(ARGS)

.venv-bench-peers/ready: dev/bench/peers/requirements.txt
	python3 -m venv .venv-bench-peers
	.venv-bench-peers/bin/pip install --quiet --requirement $<
	touch $@

# Without install scripts: what BullMQ would compile is optional.
dev/bench/peers/node_modules/ready: dev/bench/peers/package.json
	@command -v npm >/dev/null || { echo 'bench-peers: npm is missing (Debian: apt-get install nodejs npm)'; exit 1; }
	cd $(<D) && npm install --silent --no-package-lock --no-audit --no-fund --ignore-scripts
	touch $@

bench-growth: setup ## measures idle processes, the cost per job with 8 and with 500 runners, and a queue of 100,000 jobs, about 10 min; ARGS="--rate 100"
	$(CARGO) build --release -p warmq-router -p warmq-worker -p warmq-bench
	target/release/warmq-bench growth $(ARGS)

bench-http: setup-test ## measures what the queue adds to a job of a model server, and a router app of fal's package, about 2 min; ARGS="--jobs 500"
	$(CARGO) build --release -p warmq-router -p warmq-worker -p warmq-bench
	target/release/warmq-bench http --python .venv-fal/bin/python $(ARGS)

bench-engine: .venv-bench/ready ## times the engine beside Python's diffusers on the CPU, about 45 min; ARGS="--only sdxl-1024 --rounds 5"
	$(CARGO) run --release -p warmq-diffusion --example bench_engine -- --device cpu --python .venv-bench/bin/python $(ARGS)

parity: ## prints the distances from Python's diffusers of docs/benchmarks/parity.md
	$(CARGO) test -p warmq-diffusion --test solvers --test flux --test sdxl -- --nocapture --test-threads 1 | grep 'relative L2'

bench-gpu: build-cuda .venv-bench/ready ## the same on an NVIDIA GPU
	LIBTORCH=$(CURDIR)/.libtorch-cuda $(CARGO) run --release --target-dir target/cuda -p warmq-diffusion --example bench_engine -- --python .venv-bench/bin/python --steps 20 $(ARGS)

.venv-bench/ready: models/train/requirements.txt
	python3 -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --requirement $<
	touch $@

build-cuda: ## builds the worker for NVIDIA GPUs into target/cuda/release (downloads 2.5 GB once)
	@deploy/setup.sh build
	@deploy/setup-libtorch.sh --cuda
	LIBTORCH=$(CURDIR)/.libtorch-cuda $(CARGO) build --release --target-dir target/cuda -p warmq-worker

check-images: ## builds the container images on bases made by debootstrap and runs jobs in them, about 30 min; needs root; ARGS="--keep"
	python3 deploy/check-images.py $(ARGS)

clean: down ## removes build outputs, out and .run; keeps libtorch
	$(CARGO) clean
	rm -rf out .run
