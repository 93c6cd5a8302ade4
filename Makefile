# The front door. `make` alone says what there is.
CARGO ?= cargo
ARGS ?=
CORPUS ?= ../shared/corpus
VENV := target/sdk-venv/bin

.PHONY: help demo run build release test test-rust test-sdks test-console test-snippets corpus bench check fmt

help:
	@echo "make demo     the gateway with simulated providers: needs no network and no key (ARGS=--once to end by itself)"
	@echo "make run      the gateway with your providers, from the environment or .env (ARGS='-c conf/orbyt.toml')"
	@echo "make test     all tests: Rust, the official SDKs for Python and Node, the console in a browser, the snippets of the documents"
	@echo "make check    format, lints, house rules, licences"
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
	$(VENV)/python tests/sdk/gateway.py node --test --test-reporter=spec tests/sdk/node/sdk.test.mjs tests/sdk/node/matrix.test.mjs tests/sdk/node/completions.test.mjs tests/sdk/node/works.test.mjs tests/sdk/node/gemini.test.mjs
	$(VENV)/python tests/admin-api/run.py

test-console: build
	@scripts/deps.sh test
	@scripts/sdks.sh
	python3 tests/sdk/gateway.py node --test --test-reporter=spec tests/console/console.test.mjs

test-snippets: build
	@scripts/deps.sh test
	@scripts/sdks.sh
	$(VENV)/python tests/snippets/run.py

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
	$(CARGO) bench --locked --bench translate
	$(CARGO) bench --locked --bench limits
	$(CARGO) bench --locked --bench shared

check:
	@scripts/deps.sh build
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked --quiet --test architecture
	@scripts/supply-chain.sh

fmt:
	$(CARGO) fmt
