# Two commands matter: 'make run' builds, smoke-tests and fetches a real ROM; 'make test' runs all tests.
# Both do their own set-up. 'make help' lists the rest.

export CGO_ENABLED ?= 0
export GOTOOLCHAIN ?= auto

# Nothing of the machine, the folder or the moment gets into a binary.
GOBUILD  := go build -trimpath -buildvcs=false -ldflags '-s -w -buildid='
AGENTBIN := provision/agentbin/bin
AGENTS   := $(AGENTBIN)/agent-386 $(AGENTBIN)/agent-amd64 $(AGENTBIN)/init-386 $(AGENTBIN)/init-amd64
TOOLS    := .cache/tools
AGENTSRC := $(wildcard guest-agent/*.go guest-agent/wire/*.go guest-agent/wire/stream/*.go) go.mod go.sum
INITSRC := $(wildcard guest-agent/init/*.go) go.mod

.PHONY: run build test test-store test-all test-long check lint setup setup-test setup-truth generate golden clean help FORCE \
	bench bench-image bench-boot bench-overhead bench-transfer image-truth closure reproducible export-try fuzz

run: setup build ## set up, build belljar, then build, smoke-test and fetch SeaBIOS
	./bin/belljar build seabios

build: bin/belljar ## belljar with both guest agents in it

setup:
	@scripts/setup run

setup-test:
	@scripts/setup test
setup-truth:
	@scripts/setup truth

# The agents run in the guest: static, and for i686 without SSE2, which not every i686 CPU model has.
$(AGENTBIN)/agent-386: $(AGENTSRC)
	GOOS=linux GOARCH=386 GO386=softfloat $(GOBUILD) -o $@ ./guest-agent
$(AGENTBIN)/agent-amd64: $(AGENTSRC)
	GOOS=linux GOARCH=amd64 $(GOBUILD) -o $@ ./guest-agent
$(AGENTBIN)/init-386: $(INITSRC)
	GOOS=linux GOARCH=386 GO386=softfloat $(GOBUILD) -o $@ ./guest-agent/init
$(AGENTBIN)/init-amd64: $(INITSRC)
	GOOS=linux GOARCH=amd64 $(GOBUILD) -o $@ ./guest-agent/init

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
		-race -count=1 -timeout 75m ./...

test-all: setup-truth test ## all that, and the slow extras
	BELLJAR_BIN=$(CURDIR)/bin/belljar BELLJAR_SLOW=1 $(TOOLS)/gotestsum --format standard-verbose -- \
		-count=1 -timeout 10h -run 'Slow' ./integration/

test-long: setup-test test-store $(TOOLS)/gotestsum ## the shipped toolchains, each built in a guest: hours under TCG; goes on where it stopped
	BELLJAR_BIN=$(CURDIR)/bin/belljar BELLJAR_LONG=1 $(TOOLS)/gotestsum --format standard-verbose -- \
		-count=1 -timeout 24h -run 'Long' ./integration/

bench: setup build ## times builds without an image, with one, and with nothing changed
	bench/build.sh

bench-boot: setup-truth build ## times a guest's boot against plain QEMU's and debvm's
	bench/boot.sh

bench-transfer: setup build ## times bytes into and out of a guest, by SSH and by disk
	bench/transfer.sh

bench-overhead: setup build ## what the agent and its record of programs cost a build, against the serial console
	bench/overhead.sh

bench-image: setup-truth build ## times the image of a guest against mmdebstrap's of the same packages
	bench/image.sh

image-truth: setup-truth build ## the images of the shipped guests against what mmdebstrap makes of the same packages
	./bin/belljar fetch seabios
	BELLJAR_BIN=bin/belljar integration/truth.sh

closure: ## the packages that Belljar chooses against those that apt would install (Debian host; some minutes)
	go run ./integration/closure

reproducible: setup-test test-store ## the shipped guests' images made twice, under as different circumstances as can be had
	BELLJAR_BIN=$(CURDIR)/bin/belljar BELLJAR_SLOW=1 go test -count=1 -v -timeout 90m -run 'Reproducible' ./integration/

export-try: setup-truth build ## a shipped guest in each format for other tools, with time and memory
	@for f in raw qcow2 squashfs tar; do \
		/usr/bin/time -f "$$f: %U s + %S s, %M KB" ./bin/belljar image export seabios --format $$f -o .cache/export.$$f --force -q || exit; \
		rm -f .cache/export.$$f; done

generate: ## docs and schemas made from the code
	go generate ./...

fuzz: $(AGENTS) ## fuzz each parser of foreign bytes for FUZZTIME (30s)
	@for p in $$(grep -rlE '^func Fuzz' --include=*_test.go . | xargs -n1 dirname | sort -u); do \
		for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9]+' $$p/*_test.go | cut -c6-); do \
			echo "== $$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(or $(FUZZTIME),30s) $$p || exit; \
		done; done

golden: ## rewrite the golden files from what the code does now; read the diff
	go test ./... -short -update

clean: ## what was built here; 'belljar clean' empties caches
	rm -rf bin out .cache $(AGENTS)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20
