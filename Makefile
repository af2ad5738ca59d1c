.PHONY: help check test demo build
help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/'
check: ## everything CI runs
	bash .ci/run
test: ## unit tests, nothing but Go needed
	go test ./...
demo: ## a signed image admitted, an unsigned one refused
	go run ./cmd/pullgate demo
build: ## a static binary
	CGO_ENABLED=0 go build -trimpath -o pullgate ./cmd/pullgate
