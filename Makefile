# What people type. The work is done by `cargo xtask` (see xtask/). Tests and nodes are built in the release
# profile, once; what ships is built from the same sources in `dist`, optimized over all crates at once.

TIME ?= 3600
XTASK = cargo run --quiet --release --locked --package xtask --

.PHONY: help demo test bench soak fuzz node build lint audit
.DEFAULT_GOAL := help

help: ## Shows the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 16

demo: ## Builds, boots a node in QEMU, runs examples/hello.ts against it, powers it off
	@$(XTASK) demo

test: ## Runs every test that this machine can run; ends with one line of counts
	@$(XTASK) test

bench: ## Measures a node beside crun, runc and systemd in a virtual machine; HOST=1: on this machine itself
	@$(XTASK) bench $(if $(HOST),--host)

soak: ## Does what adds up for an hour or two: 10,000 cycles, 500 kills, 50 upgrades
	@$(XTASK) test setup build
	@AURAE_CYCLES=10000 AURAE_KILLS=500 AURAE_UPGRADES=50 cargo test --release --locked --workspace \
		--test vm -- --nocapture --test-threads 1 cycles:: killed:: upgrade::

fuzz: ## Runs every fuzz target for TIME seconds each (3600), or the one that is named TARGET
	@$(XTASK) fuzz --time $(TIME) $(TARGET)

node: ## Builds, boots a node and leaves it running (`cargo xtask node down` ends it)
	@$(XTASK) node up --detach

build: ## Builds the binary that ships, target/x86_64-unknown-linux-gnu/dist/aurae
	@$(XTASK) build

lint: ## Checks the formatting and runs clippy
	@$(XTASK) lint

audit: ## Checks licences, sources and advisories of all dependencies with cargo-deny
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	@cargo deny check
