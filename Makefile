# The front door. `make` alone says what there is.
CARGO ?= cargo
ARGS ?=
CORPUS ?= ../shared/corpus
VENV := target/sdk-venv/bin
PREFIX ?= /usr/local
DESTDIR ?=
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p;T;q' Cargo.toml)
MACHINE := $(shell uname -m)
# Where cargo puts what it builds, and the binary that is packaged; `make deb BINARY=…` takes another one.
TARGET = $(or $(CARGO_TARGET_DIR),target)
BINARY ?= $(TARGET)/release/orbyt
SIM ?= $(TARGET)/debug/examples/sim
export PATH := $(CURDIR)/target/tools/bin:$(PATH)

.PHONY: help demo run build release test test-rust test-sdks test-console test-snippets test-frameworks sdk corpus bench check fmt install uninstall package deb test-deb test-systemd dist

help:
	@echo "make demo     the gateway with simulated providers: needs no network and no key (ARGS=--once to end by itself)"
	@echo "make run      the gateway with your providers, from the environment or .env (ARGS='-c conf/orbyt.toml')"
	@echo "make test     all tests: Rust, the official SDKs for Python and Node, the console in a browser, the snippets of the documents"
	@echo "make test-deb, make test-systemd   as root: the Debian package, and the service in a machine of its own (some minutes; BINARY= SIM=)"
	@echo "make test-frameworks   the snippets for LangChain, LlamaIndex and the AI SDK (installs much); make sdk: our own SDKs, packed"
	@echo "make check    format, lints, house rules, licences"
	@echo "make install  after make package: the release build as a service, with manual and completions (PREFIX=$(PREFIX) DESTDIR=)"
	@echo "make deb      a Debian package in target/debian; make dist: an archive with checksums and SBOM in target/dist"
	@echo "make bench    measures against a bare Pingora proxy (some minutes; keep the machine quiet)"
	@echo "make corpus   replays recorded provider traffic (CORPUS=folder)"

demo:
	@scripts/deps.sh build
	$(CARGO) run --locked -- demo $(ARGS)

run:
	@scripts/deps.sh build
	$(CARGO) run --locked --release -- serve $(ARGS)

build:
	@scripts/deps.sh build
	$(CARGO) build --locked --bins --examples

release:
	@scripts/deps.sh build
	$(CARGO) build --locked --release

test: test-rust test-sdks test-console test-snippets

test-rust:
	@scripts/deps.sh test
	$(CARGO) test --locked

test-sdks: build
	@scripts/deps.sh test
	@scripts/sdks.sh
	$(VENV)/python -m pytest --quiet -p no:cacheprovider tests/sdk/python tests/corpus
	cd sdk/python && MYPYPATH=src $(CURDIR)/$(VENV)/python -m mypy
	PYTHONPATH=sdk/python/src $(VENV)/python tests/sdk/gateway.py $(CURDIR)/$(VENV)/python -m pytest --quiet -p no:cacheprovider sdk/python/tests
	cd sdk/node && npx --no-install tsc && npx --no-install tsc --project tsconfig.test.json
	$(VENV)/python tests/sdk/gateway.py node --test --test-reporter=spec sdk/node/test/orbyt.test.mjs
	$(VENV)/python tests/sdk/gateway.py node --test --test-reporter=spec tests/sdk/node/sdk.test.mjs tests/sdk/node/matrix.test.mjs tests/sdk/node/completions.test.mjs tests/sdk/node/works.test.mjs tests/sdk/node/gemini.test.mjs
	$(VENV)/python tests/admin-api/run.py

test-console: build
	@scripts/deps.sh test
	@scripts/sdks.sh
	$(VENV)/python tests/sdk/gateway.py node --test --test-concurrency=1 --test-reporter=spec tests/console/console.test.mjs tests/console/forms.test.mjs

test-snippets: build
	@scripts/deps.sh test
	@scripts/sdks.sh
	$(VENV)/python tests/snippets/run.py
	$(VENV)/python tests/snippets/documents.py
	$(VENV)/python tests/packaging/proxies.py

# LangChain, LlamaIndex and the AI SDK are large: their snippets (docs/frameworks.md) are tested by this alone.
test-frameworks: build
	@scripts/sdks.sh frameworks
	target/frameworks-venv/bin/python tests/snippets/documents.py docs/frameworks.md

# The wheel and the tarball of our own SDKs, in target/sdk.
sdk:
	@scripts/sdks.sh
	$(VENV)/pip wheel --quiet --no-deps --wheel-dir target/sdk ./sdk/python
	cd sdk/node && npx --no-install tsc && npm pack --silent --pack-destination ../../target/sdk

corpus: build
	python3 tests/corpus/replay_corpus.py --corpus $(CORPUS) --gateway target/debug/orbyt
	python3 tests/corpus/replay_responses.py --corpus $(CORPUS) --gateway target/debug/orbyt
	python3 tests/corpus/replay_messages.py --corpus $(CORPUS) --gateway target/debug/orbyt
	python3 tests/corpus/replay_gemini.py --corpus $(CORPUS) --gateway target/debug/orbyt
	python3 tests/corpus/replay_completions.py --corpus $(CORPUS) --gateway target/debug/orbyt
	python3 tests/corpus/replay_embeddings.py --corpus $(CORPUS) --gateway target/debug/orbyt
	python3 tests/corpus/replay_relays.py --corpus $(CORPUS) --gateway target/debug/orbyt

bench: release
	$(CARGO) bench --locked --bench gateway -- $(ARGS)
	$(CARGO) bench --locked --bench gateway -- --pairs $(ARGS)
	$(CARGO) bench --locked --bench gateway -- --console $(ARGS)
	$(CARGO) bench --locked --bench translate
	$(CARGO) bench --locked --bench limits
	$(CARGO) bench --locked --bench shared

check:
	@scripts/deps.sh build
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked --quiet --test architecture
	@scripts/supply-chain.sh
	@scripts/deploy-check.sh

fmt:
	$(CARGO) fmt

# What is installed and packed: the release build, or the one that BINARY names, and what is made from it.
package: $(if $(filter $(TARGET)/release/orbyt,$(BINARY)),release)
	@scripts/assets.sh $(BINARY) target/package

# As root this makes the user and tells systemd; with DESTDIR it only puts files there. It builds nothing, so that root need not.
install:
	@test -e target/package/orbyt.toml || { echo "First: make package" >&2; exit 1; }
	@PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) scripts/install.sh $(BINARY) target/package

uninstall:
	@PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) scripts/install.sh --remove

deb: package
	@scripts/tools.sh cargo-deb
	@scripts/deb.sh $(BINARY)

# As root, with debootstrap: the package in a Debian of its own. Not part of make test, as the next one.
test-deb: package
	@scripts/tools.sh cargo-deb
	@tests/packaging/deb.sh $(BINARY)

# Some minutes, as root, with debootstrap and systemd-nspawn or qemu: the package under the systemd of a machine of its own.
# SIM names simulated providers that are built already, as BINARY does the gateway.
test-systemd: package $(if $(filter $(TARGET)/debug/examples/sim,$(SIM)),build)
	@scripts/tools.sh cargo-deb
	@tests/packaging/systemd.sh $(BINARY) $(SIM)

dist: package
	@scripts/dist.sh $(BINARY) target/package target/dist/orbyt-$(VERSION)-$(MACHINE)-linux
