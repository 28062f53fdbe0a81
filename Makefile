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
confdir := $(DESTDIR)/etc/mcp-gateway
unitdir := $(DESTDIR)$(PREFIX)/lib/systemd
UNITS ?= $(if $(filter Darwin,$(shell uname)),launchd,systemd)

.PHONY: help run test soak setup schema fmt lint audit build install install-files deb tarball clean

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

build: ## the release binaries
	cargo build --locked --release --bins

install: build install-files ## install binaries, Python package, manuals, completions, schema, config, units

# What `install` installs, without building it. UNITS=no leaves the units to a packager's tools.
install-files:
	install -d $(bindir)
	install -m 755 $(addprefix $(TARGET)/release/,mcp-gateway mcp-gateway-exec mcp-gateway-stdio) $(bindir)
	install -D -m 644 -t $(datadir)/man/man1 man/*.1
	install -D -m 644 -t $(datadir)/man/man5 man/*.5
	install -D -m 644 -t $(datadir)/man/man8 man/*.8
	install -d $(datadir)/mcp-gateway/python/mcp_gateway
	cp -R python/src/mcp_gateway/. $(datadir)/mcp-gateway/python/mcp_gateway/
	find $(datadir)/mcp-gateway/python -name __pycache__ -prune -exec rm -rf {} +
	install -D -m 644 $(SCHEMA) $(datadir)/mcp-gateway/gateway.schema.json
	install -D -m 644 -t $(datadir)/doc/mcp-gateway README.md SECURITY.md CHANGELOG.md
	install -D -m 644 -t $(datadir)/doc/mcp-gateway/examples examples/gateway.yaml
	install -d $(datadir)/bash-completion/completions $(datadir)/zsh/site-functions $(datadir)/fish/vendor_completions.d
	$(TARGET)/release/mcp-gateway completions bash > $(datadir)/bash-completion/completions/mcp-gateway
	$(TARGET)/release/mcp-gateway completions zsh > $(datadir)/zsh/site-functions/_mcp-gateway
	$(TARGET)/release/mcp-gateway completions fish > $(datadir)/fish/vendor_completions.d/mcp-gateway.fish
	test -e $(confdir)/gateway.yaml || install -D -m 644 packaging/gateway.yaml $(confdir)/gateway.yaml
	install -D -m 644 packaging/conf.d/README $(confdir)/conf.d/README
ifeq ($(UNITS),systemd)
	install -d $(unitdir)/system $(unitdir)/user
	for unit in system/mcp-gateway.service user/mcp-gateway.service; do sed 's|/usr/bin/|$(PREFIX)/bin/|' systemd/$$unit > $(unitdir)/$$unit; chmod 644 $(unitdir)/$$unit; done
	install -m 644 -t $(unitdir)/system systemd/system/*.socket
	install -m 644 -t $(unitdir)/user systemd/user/*.socket
	install -D -m 644 systemd/sysusers.d/mcp-gateway.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/mcp-gateway.conf
	install -D -m 644 systemd/tmpfiles.d/mcp-gateway.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/mcp-gateway.conf
endif
ifeq ($(UNITS),launchd)
	install -D -m 644 launchd/io.github.mcp-gateway.plist $(DESTDIR)/Library/LaunchDaemons/io.github.mcp-gateway.plist
	install -D -m 644 launchd/io.github.mcp-gateway.agent.plist $(datadir)/mcp-gateway/io.github.mcp-gateway.agent.plist
endif

deb: ## build the Debian package in target/deb (with the toolchain that is in PATH)
	@packaging/deb.sh

tarball: build ## pack what `install` installs into target/tarball
	@packaging/tarball.sh

clean: ## remove what was built
	cargo clean
