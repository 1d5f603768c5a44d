# Every target makes what it needs; `make help` lists them.
SHELL := /bin/bash

# Where Go's own installer and deploy/setup.sh put it, which sudo's PATH leaves out.
export PATH := $(PATH):/usr/local/go/bin
# Debian's Go is told not to fetch the newer one that go.mod asks for.
export GOTOOLCHAIN ?= auto

# safe.directory: root may build in a user's checkout.
git = git -c safe.directory="$(CURDIR)"
version = $$($(git) describe --tags --always --dirty 2>/dev/null || echo dev)
commit = $$($(git) rev-parse --short HEAD 2>/dev/null || echo unknown)

.DEFAULT_GOAL := help
.PHONY: help demo test build race bench bench-sandbox chaos fuzz lint image up down

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## install what is missing, then open the page at 127.0.0.1:8080
	@deploy/setup.sh demo
	@$(MAKE) --no-print-directory build
	@exec bin/threadbook serve --demo

test: ## install what is missing, then run every check and test
	@deploy/setup.sh test
	@deploy/test.sh

build: ## the binary: bin/threadbook
	@CGO_ENABLED=0 go build -trimpath -buildvcs=false \
		-ldflags "-s -w -X main.version=$(version) -X main.commit=$(commit)" \
		-o bin/threadbook ./cmd/threadbook

race: ## the tests three times over, under the race detector
	go test -race -count=3 -timeout 30m ./...

bench: ## the benchmarks
	go test -run '^$$' -bench . -benchmem ./...

bench-sandbox: ## what a sandbox costs, beside docker run, jupyter_client and the engine's checkpoints
	@deploy/setup.sh test
	go test -run '^$$' -bench 'First|Cell|Table|Sleep|Cost' -benchtime 10x -timeout 1h ./sandbox/docker
	go test -run '^$$' -bench Twenty -benchtime 2x -timeout 1h ./sandbox/docker

chaos: ## kill workers, bots, containers, kernels and Redis for MINUTES (10); SEED repeats a run
	@deploy/setup.sh test
	go test -race -run 'TestChaos$$' -v -count=1 -timeout 0 ./cmd/threadbook -chaos-minutes $(or $(MINUTES),10) -chaos-seed $(or $(SEED),0)

fuzz: ## 20 seconds of every fuzz test
	@deploy/fuzz.sh 20s

lint: ## build, vet, gofmt and staticcheck, as `make test` has them
	@deploy/test.sh lint

image: build ## the binary's image: threadbook/threadbook:latest
	@deploy/setup.sh image

up: ## Redis, bot and worker with docker-compose.yml
	@deploy/setup.sh up
	@$(MAKE) --no-print-directory image
	@deploy/compose.sh up

down: ## stop them; threads and files stay in their volumes
	@deploy/compose.sh down
