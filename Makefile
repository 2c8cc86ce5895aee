# Gantry. `make help` lists what there is; CONTRIBUTING.md says how long each takes.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO   ?= cargo
CLUSTER := hack/cluster
STEP    := hack/step

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## ── use it ──────────────────────────────────────────────────────────────────────────────────────
.PHONY: demo demo-down up down deploy logs shell status
demo: ## a Kubernetes, Gantry, a RocketMQ cluster, messages over both protocols
	@hack/demo
demo-down: ## remove everything that `make demo` made, with the Kubernetes under test
	@$(CLUSTER) down
up: ## the Kubernetes under test, with the images loaded
	@$(STEP) "Kubernetes programs" $(CLUSTER) build
	@$(STEP) "Kubernetes" $(CLUSTER) up
	@$(STEP) "images of engine and clients" hack/images clients
down: demo-down ## remove the Kubernetes under test
deploy: ## build the operator without optimization and (re)install it: seconds after an edit
	@GANTRY_PROFILE=dev $(STEP) "Gantry: image and chart" hack/deploy
logs: ## the operator's log
	@$(CLUSTER) kubectl -- -n gantry-system logs deployment/gantry-operator --tail=200 -f
shell: ## a shell where pods, Services and DNS names of the Kubernetes under test are reachable
	@$(CLUSTER) exec -- bash
status: ## what runs
	@$(CLUSTER) kubectl -- get rocketmq,pods -A -o wide

## ── check it ────────────────────────────────────────────────────────────────────────────────────
.PHONY: test test-fast lint unit engine api-server simulation generated deny advisories chart gitops bench chaos e2e e2e-faults generate bench-failover bench-topics trial-controllers
test: ## everything that CI runs
	@hack/test
test-fast: lint unit ## no cluster, no image: seconds after the first build
lint: ## format and clippy
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	@# Tests that `cargo test` does not start by itself are no part of all targets.
	@$(CARGO) clippy -p gantry-operator --test api_server --test engine_real --quiet -- -D warnings
	@$(CARGO) clippy -p gantry-e2e --test e2e --quiet -- -D warnings
unit: ## unit tests, goldens, rules, the simulation's fixed seeds
	@$(CARGO) test --workspace --quiet
engine: ## the engine client against a real engine
	@$(CARGO) test -p gantry-operator --test engine_real
api-server: ## a real API server: definitions, rules, pods, passes, leaders, rights
	@hack/api-server
simulation: ## a simulated cluster with faults and edits: SIMULATIONS=2000 schedules, from SEED=0 on
	@$(CARGO) test $(if $(SIMULATIONS),--profile thorough) -p gantry-operator --test simulation
deny: ## licences, origins and duplicates of what is linked in
	@hack/deny check bans licenses sources
advisories: ## known weaknesses of what is linked in; needs the network
	@hack/deny check advisories
generate: ## write generated files anew: CRDs, goldens, reference
	@hack/generate
generated: ## generated files are current
	@hack/generate --check
chart: ## the chart renders what it should
	@hack/chart
gitops: ## what Argo CD calls objects by examples/gitops
	@hack/gitops
bench: ## figures side by side, into docs/benchmarks.md
	@hack/bench
chaos: ## N=100 faults in random order by SEED=1 under an audit of every message, into docs/reliability.md; FAULTS, REPLICAS, NODES, FRESH=yes
	@hack/chaos
bench-failover: ## how long writers stand still, with Gantry and without, into docs/benchmarks-failover.md
	@hack/bench-failover
bench-topics: ## topics by the thousand, into docs/benchmarks-topics.md
	@hack/bench-topics
trial-controllers: ## both types of controllers against lost disks and failures, into docs/design/0009-controller-type.md
	@hack/trial-controllers
e2e: ## on a real Kubernetes with a real RocketMQ
	@hack/e2e
e2e-faults: ## every single failure, scaling and upgrades under an audit of every message: two hours
	@NODES=3 hack/e2e --nocapture failover:: scale:: upgrade::
