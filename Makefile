# Two commands matter: 'make run' builds, smoke-tests and fetches a real ROM; 'make test' runs all tests.
# Both do their own set-up. 'make help' lists the rest.

export CGO_ENABLED ?= 0
export GOTOOLCHAIN ?= auto

# Nothing of the machine, the folder or the moment gets into a binary.
GOBUILD  := go build -trimpath -buildvcs=false -ldflags '-s -w -buildid='
AGENTS   := provision/agentbin/bin/agent-386 provision/agentbin/bin/agent-amd64
TOOLS    := .cache/tools
AGENTSRC := $(wildcard guest-agent/*.go guest-agent/wire/*.go) go.mod go.sum

.PHONY: run build test test-store test-all check lint setup setup-test generate golden bench clean help FORCE

run: setup build ## set up, build belljar, then build, smoke-test and fetch SeaBIOS
	./bin/belljar build seabios

build: bin/belljar ## belljar with both guest agents in it

setup:
	@scripts/setup run

setup-test:
	@scripts/setup test

# The agents run in the guest: static, and for i686 without SSE2, which not every i686 CPU model has.
provision/agentbin/bin/agent-386: $(AGENTSRC)
	GOOS=linux GOARCH=386 GO386=softfloat $(GOBUILD) -o $@ ./guest-agent
provision/agentbin/bin/agent-amd64: $(AGENTSRC)
	GOOS=linux GOARCH=amd64 $(GOBUILD) -o $@ ./guest-agent

bin/belljar: $(AGENTS) FORCE
	$(GOBUILD) -o $@ ./cmd/belljar

$(TOOLS)/golangci-lint $(TOOLS)/gotestsum: tools/go.mod tools/go.sum
	cd tools && go build -trimpath -o ../$(TOOLS)/ \
		github.com/golangci/golangci-lint/v2/cmd/golangci-lint gotest.tools/gotestsum

lint: $(TOOLS)/golangci-lint $(AGENTS) ## the linter, with the layers' rule
	$(TOOLS)/golangci-lint run ./...

check: lint ## what needs no virtual machine: linter, vet, unit tests
	go vet ./...
	go test -short ./...

# What the tests boot and build with, kept from one run to the next.
export BELLJAR_TEST_DIR ?= $(CURDIR)/.cache/test

test-store: build ## the packages that the tests boot and build with, fetched
	./bin/belljar fetch seabios --dir $(BELLJAR_TEST_DIR)

test: setup-test test-store $(TOOLS)/gotestsum lint ## set up, then all tests: linter, vet, unit tests with -race, whole-system tests under TCG
	go vet ./...
	CGO_ENABLED=1 BELLJAR_BIN=$(CURDIR)/bin/belljar $(TOOLS)/gotestsum --format pkgname-and-test-fails -- \
		-race -count=1 -timeout 45m ./...

test-all: test ## all that, and the slow extras
	BELLJAR_BIN=$(CURDIR)/bin/belljar BELLJAR_SLOW=1 $(TOOLS)/gotestsum --format standard-verbose -- \
		-count=1 -timeout 150m -run 'Slow' ./integration/

bench: setup build ## times builds without an image, with one, and with nothing changed
	bench/build.sh

generate: ## docs and schemas made from the code
	go generate ./...

golden: ## rewrite the golden files from what the code does now; read the diff
	go test ./... -short -update

clean: ## what was built here; 'belljar clean' empties caches
	rm -rf bin out .cache $(AGENTS)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20
