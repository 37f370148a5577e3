# Everything runs from here. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

LAB := python3 e2e/lab/lab.py
E2E := python3 e2e/run.py
BENCH := python3 e2e/bench
CARGO_DENY_VERSION := 0.20.2
CACHE := $(or $(DIRECTLB_CACHE),$(HOME)/.cache/directlb)
# How many seeds the simulation runs.
SIM_SEEDS ?= 1000
CARGO_DENY := $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

.PHONY: build
build: ## Build the controller
	cargo build --locked

.PHONY: demo
demo: ## From a fresh machine to a working load balancer (leaves the lab up; `make lab-down` ends it)
	python3 e2e/demo.py

.PHONY: test
test: test-unit test-e2e ## Every test: unit, golden, property, simulation, real Envoy, end to end in the lab

.PHONY: test-unit
test-unit: ## Tests that need no cluster (the real Envoy is fetched once)
	$(LAB) build envoy
	DIRECTLB_REQUIRE_ENVOY=1 SIM_SEEDS=$(SIM_SEEDS) cargo test --locked --workspace
	$(MAKE) oracle

.PHONY: oracle
oracle: ## Check the emulator of Tencent's CLB with Tencent's own SDK (fetched once)
	@# The same features as in the tests, so that nothing is built twice; the binary comes with them.
	cargo test --locked --workspace --test tencent --no-run
	python3 e2e/oracle/tencent.py $(or $(CARGO_TARGET_DIR),target)/debug/tencent-emulator

.PHONY: test-e2e
test-e2e: ## End-to-end tests in the lab, which is taken down afterwards
	$(E2E)

.PHONY: bench-rollout bench-gate bench-idle bench-sync
bench-sync: ## The sync engine beside simpler strategies, on the emulator (target/reports/sync.json, docs/sync.svg)
	cargo bench --locked --package e2e --bench sync --profile dev

bench-rollout: ## Requests that fail in rollouts, beside other ways (about 25 minutes; target/reports/rollout.json)
	$(BENCH) rollout

bench-gate: ## How fast gates open and drains begin (target/reports/gate.json)
	$(BENCH) gate

bench-idle: ## Memory and CPU of a controller at rest (target/reports/idle.json)
	$(BENCH) idle

.PHONY: lab-up
lab-up: ## Build (once) and start the lab: a real Kubernetes in network namespaces
	$(LAB) up

.PHONY: lab-down
lab-down: ## Take the lab down, leaving nothing behind
	$(LAB) down

.PHONY: crds
crds: ## Generate crds/ and the chart's copy from the Rust types
	UPDATE_CRDS=1 cargo test --locked --test crds

.PHONY: fmt lint docs audit
fmt: ## Check the formatting
	cargo fmt --all --check

lint: ## Clippy, warnings denied
	cargo clippy --locked --workspace --all-targets -- -D warnings

docs: ## Build the documentation, warnings denied
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

audit: $(CARGO_DENY) ## Licences, sources and bans of every dependency
	$(CARGO_DENY) check bans licenses sources

$(CARGO_DENY):
	@echo "==> building cargo-deny $(CARGO_DENY_VERSION) (first time: about 6 minutes on 2 cores; cached in $(CACHE))"
	CARGO_TARGET_DIR=$(CURDIR)/target/cargo-deny cargo install --quiet --locked --version $(CARGO_DENY_VERSION) \
		--root $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION).tmp cargo-deny
	rm -rf $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION) $(CURDIR)/target/cargo-deny
	mv $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION).tmp $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)
