# Braid's verbs. `make` alone lists them.

# What a bare Debian needs, beside a Rust toolchain.
BUILD_PACKAGES := gcc libc6-dev make clang libelf-dev m4 pkg-config
TEST_PACKAGES := iproute2 ethtool iperf3 mptcpize tshark nftables tcpdump procps binutils xz-utils

CARGO ?= cargo
SHELL := /bin/bash

.DEFAULT_GOAL := help
.PHONY: help deps build test test-long test-zerocopy fuzz packetdrill demo bench bench-quick experiments golden lint fmt clean

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## Install the Debian packages that are missing (needs root only then)
	@missing=; \
	for package in $(BUILD_PACKAGES) $(TEST_PACKAGES) $(EXTRA_PACKAGES); do \
		status=$$(dpkg-query --show --showformat='$${db:Status-Status}' $$package 2>/dev/null) || true; \
		[ "$$status" = installed ] || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" != 0 ]; then \
			echo "Missing packages. As root: apt-get install$$missing" >&2; exit 1; \
		fi; \
		echo "Installing:$$missing"; \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get update -q && apt-get install -q -y --no-install-recommends $$missing; \
	fi
	@command -v $(CARGO) >/dev/null || { echo "Rust is missing: see https://rustup.rs" >&2; exit 1; }

build: deps ## Build the release binary, target/release/braid
	$(CARGO) build --release --locked

test: deps ## Check the format, lint, and run every test (as root: those on real veth pairs too)
	@tests/run short

# libFuzzer is written in C++.
test-long fuzz: EXTRA_PACKAGES := g++

test-long: deps ## The same with the long forms: more seeds, 1 GiB transfers, hours of fuzzing
	@tests/run long

test-zerocopy: deps ## Only the zero-copy suite: virtio_net and igb in an emulated guest (part of test, too)
	$(CARGO) test --locked --test zerocopy -- --nocapture

fuzz: deps ## Have a fuzzer look for packets that do harm: [SECONDS=3600] for each target
	@tests/fuzz/run $(SECONDS)

# PACKETDRILL: the binary. SCRIPTS: a folder of scripts. JSON=1: everything as JSON. DRILL: further words (-v, --filter).
packetdrill: ## Run packetdrill's scripts against Braid: PACKETDRILL=binary SCRIPTS=folder [JSON=1] (needs root)
	@if [ -z "$(PACKETDRILL)" ] || [ -z "$(SCRIPTS)" ]; then \
		echo "Say where they are: make packetdrill PACKETDRILL=binary SCRIPTS=folder"; \
		echo "packetdrill is not in Debian. To get it, somewhere outside of this repository:"; \
		echo "  apt-get install git gcc make bison flex libc6-dev zlib1g-dev python3"; \
		echo "  git clone https://github.com/google/packetdrill      (TCP; scripts in gtests/net/tcp)"; \
		echo "  git clone https://github.com/gdetal/packetdrill      (MPTCP; scripts in gtests/net/mptcp)"; \
		echo "  cd packetdrill/gtests/net/packetdrill && ./configure && make packetdrill"; \
		exit 2; \
	fi >&2
	@$(CARGO) build --locked --quiet --example packetdrill --example packetdrill-run
	@target/debug/examples/packetdrill-run --packetdrill $(PACKETDRILL) --scripts $(SCRIPTS) \
		$(if $(JSON),--json) $(DRILL)

demo: build ## Two hosts, two paths: ten seconds of traffic, then a file while a path fails (needs root)
	@target/release/braid demo $(DEMO)

bench: build ## Run the benchmarks (needs root)
	@bench/run

bench-quick: build ## Run the benchmarks' short form (needs root)
	@bench/run --quick

experiments: build ## Run the experiments of the literature in the simulator: about an hour on two cores
	@target/release/braid sim run bench/plans/all.toml bench/plans/staleness.toml --out bench/results/experiments; \
		status=$$?; [ $$status -le 1 ] || exit $$status

golden: build ## Work out anew what tests/golden.rs compares with: after a change that is meant to change it
	@target/release/braid sim run bench/plans/golden.toml --out target/golden
	@awk -F, -v OFS=, 'NR == 1 { print $$1, $$2, $$3, $$4, $$6; next } { printf "%s,%s,%s,%s,%.2f\n", $$1, $$2, $$3, $$4, $$6 }' \
		target/golden/golden.csv >tests/golden.csv

lint: deps ## Lint, warnings denied
	$(CARGO) clippy --locked --all-targets -- -D warnings

fmt: ## Format the code
	$(CARGO) fmt

clean: ## Remove what the build made
	$(CARGO) clean
