# Build entry points. `make` alone lists them. Recipes are short; what is longer is a script.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
DESTDIR ?=
TARGET := $(or $(CARGO_TARGET_DIR),target)
SCHEMA := packaging/gateway.schema.json
bindir := $(DESTDIR)$(PREFIX)/bin
datadir := $(DESTDIR)$(PREFIX)/share

.PHONY: help run test soak setup schema fmt lint audit build install clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "  install takes PREFIX (now $(PREFIX)) and DESTDIR"

run: ## build, try the gateway on the echo example, say what to try next; SERVE=1 goes on to serve
	@examples/run.sh $(if $(filter-out 0,$(SERVE)),--serve)

test: ## everything that must hold: format, lints, dependencies, all tests, real clients
	@tests/run.sh

soak: ## the long runs, in release mode
	@tests/run.sh soak

setup: ## install what the tests use (pinned, outside the tree)
	@tests/setup/setup.sh

schema: ## renew packaging/gateway.schema.json
	cargo run --locked --quiet -- schema > $(SCHEMA).new
	mv $(SCHEMA).new $(SCHEMA)

fmt: ## format the code
	cargo fmt

lint: setup ## format check, clippy, cargo-deny without advisories
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	"$$(tests/setup/setup.sh --path)/tools/bin/cargo-deny" --locked check --hide-inclusion-graph bans licenses sources

audit: setup ## known vulnerabilities of dependencies (fetches the advisory database)
	"$$(tests/setup/setup.sh --path)/tools/bin/cargo-deny" --locked check advisories

build: ## the release binary
	cargo build --locked --release --bins

install: build ## install the binaries, Python package, schema, completions, example config
	install -D -m 755 $(TARGET)/release/mcp-gateway $(bindir)/mcp-gateway
	install -D -m 755 $(TARGET)/release/mcp-gateway-exec $(bindir)/mcp-gateway-exec
	install -D -m 644 $(SCHEMA) $(datadir)/mcp-gateway/gateway.schema.json
	install -D -m 644 examples/gateway.yaml $(datadir)/doc/mcp-gateway/gateway.yaml
	install -D -m 644 LICENSE $(datadir)/doc/mcp-gateway/LICENSE
	install -d $(datadir)/mcp-gateway/python/mcp_gateway
	cp -R python/src/mcp_gateway/. $(datadir)/mcp-gateway/python/mcp_gateway/
	find $(datadir)/mcp-gateway/python -name __pycache__ -prune -exec rm -rf {} +
	install -d $(datadir)/bash-completion/completions $(datadir)/zsh/site-functions $(datadir)/fish/vendor_completions.d
	$(TARGET)/release/mcp-gateway completions bash > $(datadir)/bash-completion/completions/mcp-gateway
	$(TARGET)/release/mcp-gateway completions zsh > $(datadir)/zsh/site-functions/_mcp-gateway
	$(TARGET)/release/mcp-gateway completions fish > $(datadir)/fish/vendor_completions.d/mcp-gateway.fish

clean: ## remove what was built
	cargo clean
