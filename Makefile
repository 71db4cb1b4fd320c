# `make` alone says what there is to make.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules
.PHONY: help up down test check vet lint fmt test-packages test-e2e bench soak build images docs clean

GOFUMPT := mvdan.cc/gofumpt@v0.12.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

export PATH := $(CURDIR)/.build/tools/usr/bin:$(PATH):/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin
# git may refuse to tell of a tree that another user owns; VERSION stands in.
export GOFLAGS := $(strip $(filter-out -buildvcs=%,$(GOFLAGS)) -buildvcs=false)

VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS = -s -w -X github.com/evenkeel/evenkeel/cmd/internal/command.Version=$(VERSION)
# The packages that are tested beside one another.
PACKAGES = $$(go list ./... | grep -vE '/cmd/e2e(/|$$)')
PROGRAMS := ./cmd/reconcile ./cmd/nodeagent ./cmd/proxy

# What tests use the API with, of the version that the API is made of.
export KUBECTL := $(CURDIR)/.build/tools/kubectl

# Go leaves testdata out of ./...; its programs are named one by one.
TESTDATA := $(addprefix ./,$(sort $(dir $(shell find testdata -name '*.go'))))
ALL := ./... $(TESTDATA)

# Containers need root. Only the programs and tests themselves get it: what is
# built stays the caller's.
ifneq ($(shell id -u),0)
ifneq ($(shell command -v sudo),)
AS_ROOT = sudo -E env "PATH=$$PATH"
TEST_EXEC = -exec "sudo -E env PATH=$$PATH HOME=/root GOMODCACHE=$$(go env GOMODCACHE)"
else
NO_ROOT := printf '==> neither root nor sudo: tests that need root are skipped\n'
endif
endif

help: ## say what there is to make
	@printf 'Evenkeel: containers from git.\n\n'
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## install what is missing, build, and run the guestbook on this machine
	@.ci/install run
	@$(MAKE) build images
	@printf '==> reconcile up testdata/guestbook\n'
	@exec $(AS_ROOT) .build/bin/reconcile up --images .build/images testdata/guestbook

down: ## stop and remove all that `make up` made
	@$(AS_ROOT) .build/bin/reconcile down

test: ## install what is missing, and pass every check and test
	@.ci/install test
	@$(MAKE) build images .build/tools/kubectl check test-packages test-e2e
	@printf '==> all checks and tests passed in %d min %d s\n' $$(( ($$(date +%s) - $(NOW)) / 60 )) $$(( ($$(date +%s) - $(NOW)) % 60 ))

NOW := $(shell date +%s)

check: vet lint ## vet, formatting, staticcheck

vet:
	@printf '==> go vet\n'
	@go vet $(ALL)

lint: ## formatting and staticcheck
	@printf '==> gofumpt\n'
	@files=$$(go run $(GOFUMPT) -l . $(TESTDATA)); \
	if [[ -n $$files ]]; then printf 'not formatted (make fmt):\n%s\n' "$$files"; exit 1; fi
	@printf '==> staticcheck\n'
	@go run $(STATICCHECK) $(ALL)

fmt: ## format all Go files
	@go run $(GOFUMPT) -l -w . $(TESTDATA)

# Packages side by side; the whole programs afterwards and alone, because they
# are held to times and use the machine's own addresses.
test-packages: .build/tools/kubectl ## the tests of all packages, with the race detector
	@printf '==> go test -race\n'
	@$(NO_ROOT)
	@packages="$(PACKAGES)"; go test -race -vet=off -timeout 20m $(TEST_EXEC) $$packages

test-e2e: build images .build/tools/kubectl ## the programs from end to end, on real containers
	@printf '==> end to end\n'
	@$(NO_ROOT)
	@EVENKEEL_BIN=$(CURDIR)/.build/bin go test -race -vet=off -count=1 -v -timeout 15m $(TEST_EXEC) ./cmd/e2e/...

bench: build images ## measure, as bench/results.json too (BENCH='-n 3 -only pods')
	@.ci/install run
	@go build -o .build/bench ./cmd/bench
	@$(AS_ROOT) env TMPDIR=$${TMPDIR:-/dev/shm} .build/bench $(BENCH)

N ?= 20
KILLS ?= 500
soak: build images .build/tools/kubectl ## KILLS=500 kills at random, all tests N=20 times, and properties with new seeds
	@.ci/install test
	@EVENKEEL_BIN=$(CURDIR)/.build/bin go test -vet=off -count=1 -v -timeout 0 $(TEST_EXEC) -run 'TestSoak$$' ./cmd/e2e -soak.kills=$(KILLS)
	@EVENKEEL_BIN=$(CURDIR)/.build/bin go test -race -vet=off -count=$(N) -timeout 0 $(TEST_EXEC) ./cmd/e2e/...
	@packages="$(PACKAGES)"; go test -race -vet=off -count=$(N) -timeout 0 $(TEST_EXEC) $$packages

build: ## the programs, to .build/bin
	@printf '==> building .build/bin\n'
	@mkdir -p .build/bin
	@CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o .build/bin/ $(PROGRAMS)

images: .build/images/guestbook.tar .build/images/echo.tar ## the images of the examples, to .build/images

.build/images/%.tar: $(shell find testdata -path '*/src/*' -o -path 'testdata/images/*' -type f)
	@printf '==> building %s\n' $@
	@mkdir -p $(@D)
	@go run ./testdata/images/build -o $@ ./testdata/$*/src evenkeel.io/$*:1

.build/tools/kubectl: go.mod
	@printf '==> building .build/tools/kubectl\n'
	@mkdir -p $(@D)
	@version=$$(go list -m -f '{{.Version}}' k8s.io/kubernetes); \
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$$version" -o $@ k8s.io/kubernetes/cmd/kubectl

docs: ## write docs/supported.md, docs/pods.md and docs/errors.md anew
	@go test ./schema/support ./cmd/internal/house -update

clean: ## remove what was built
	@rm -rf .build bench/results.json
