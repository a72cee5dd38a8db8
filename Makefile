# eo-tasks. `make help` lists what there is.

PYTHON ?= python3
COMPOSE ?= docker compose
VENV := .venv
BIN := $(VENV)/bin
CPU ?= 2
RUN ?= latest
FORMAT ?= html

# The BTC queue is served by the GPU where there is one, else by a CPU.
INFERENCE ?= $(if $(shell nvidia-smi -L 2>/dev/null),gpu,cpu-inference)
# The database is started unless .env does without one, and the sample is mapped until .env names a grid. What a site
# changes in docker-compose.override.yml counts, as it does for compose itself.
DATABASE ?= $(if $(shell grep -s '^PIPELINE_MODE=local_only' .env),,yes)
SAMPLE ?= $(if $(shell grep -s '^GRID_FILE=.' .env),,yes)
TLS ?= $(shell grep -s -i -E '^REDIS_TLS=(yes|y|true|t|on|1)$$' .env)
BUCKET ?= $(if $(SAMPLE),,$(shell grep -s '^DATA_DIR=s3://' .env))
STACK := $(COMPOSE) -f docker-compose.yml $(if $(SAMPLE),-f deploy/compose.sample.yml) \
  $(if $(TLS),-f deploy/compose.tls.yml) $(if $(BUCKET),-f deploy/compose.s3.yml) \
  $(if $(wildcard docker-compose.override.yml),-f docker-compose.override.yml) \
  --profile $(INFERENCE) $(if $(DATABASE),--profile database)

# A variable of .env, or its default.
set_in_env = $(or $(shell sed -n 's/^$(1)=//p' .env 2>/dev/null),$(2))

CERTIFICATES = $(call set_in_env,CERTIFICATES_DIR,./certificates)

.DEFAULT_GOAL := help
.PHONY: help install run test chaos lint check-deploy lock audit licences sbom env build up down logs scale shell clean
.PHONY: backup restore plan enqueue status watch runs pause resume stop cancel errors retry report doctor download store

help:  ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

##--- One machine, nothing installed

install: $(VENV)/.installed  ## Make the virtual environment

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

run: install  ## Map the sample area with embedded parts; ARGS="--years 2021-2023 --grid g.gpkg" for your own
	$(BIN)/eo-tasks run $(ARGS)

test: install  ## Run the tests; ARGS="-k ledger" for some of them
	$(BIN)/python -m pytest $(ARGS)

chaos: install  ## Kill workers, Redis and more for half an hour; figures in build/chaos.jsonl
	@mkdir -p build && rm -f build/chaos.jsonl
	CHAOS=long CHAOS_FIGURES=$(CURDIR)/build/chaos.jsonl $(BIN)/python -m pytest tests/chaos $(ARGS)
	@cat build/chaos.jsonl

lint: install  ## Format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check-deploy: install  ## Schemas and linters over everything that deploys the project
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/check-deploy

##--- What it is made of

lock:  ## Update constraints.txt
	scripts/lock

audit: install  ## Known vulnerabilities of constraints.txt; asks PyPI
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

licences: install  ## Licences of what is installed, in build/licences.md; fails on an unknown one
	$(BIN)/python scripts/licences

sbom: install  ## Everything in .venv as CycloneDX, in build/sbom.cdx.json
	@mkdir -p build
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
	  --of JSON --output-file build/sbom.cdx.json $(VENV)

##--- Docker

env:  ## Write .env, or add to it the passwords that it lacks; they are fresh
	@umask 077; test -f .env || cp deploy/env.example .env; \
	grep -q "^REDIS_USERNAME=" .env || echo "REDIS_USERNAME=worker" >> .env; \
	for name in REDIS_PASSWORD REDIS_DASHBOARD_PASSWORD REDIS_FLOWER_PASSWORD \
	  DB_PASSWORD DB_ADMIN_PASSWORD DASHBOARD_PASSWORD; do grep -q "^$$name=" .env || \
	    echo "$$name=$$($(PYTHON) -c 'import secrets; print(secrets.token_hex(16))')" >> .env; done; \
	grep -q "^FLOWER_BASIC_AUTH=" .env || { \
	  echo "FLOWER_BASIC_AUTH=operator:$$($(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(12))')" >> .env; \
	  echo "Wrote .env with fresh passwords; the logins of the dashboard (user operator) and of Flower are in it."; }

build: env  ## Build the images
	$(STACK) build

up: env  ## Start everything in Docker
	@mkdir -p grids models && chmod -R a+rX deploy/redis
	$(if $(TLS),@test -f $(CERTIFICATES)/redis.key || scripts/make-certificates $(CERTIFICATES))
	$(STACK) up -d --build || { $(STACK) logs --tail=20 setup; exit 1; }
	@echo "Dashboard: http://127.0.0.1:$(call set_in_env,MONITORING_PORT,8080)  Flower: http://127.0.0.1:$(call set_in_env,FLOWER_PORT,5555)"
	@echo "Their logins are in .env. $(if $(SAMPLE),There is no GRID_FILE in it yet: this is the sample area.)"
	@echo 'Next: make enqueue YEARS="2022 2023 2024", then make watch'

down:  ## Stop everything; the data stay
	$(STACK) down

logs:  ## Follow the logs; SERVICE=worker-cpu for one
	$(STACK) logs -f --tail=100 $(SERVICE)

scale:  ## Run CPU=4 CPU workers
	$(STACK) up -d --no-build --no-recreate --no-deps --scale worker-cpu=$(CPU) worker-cpu

##--- A running system: the words of eo-tasks, which it is asked by

ASK := $(STACK) exec -T worker-control eo-tasks
WANTED = --years "$(YEARS)" $(if $(CELLS),--cells "$(CELLS)")

plan:  ## What a request for YEARS="2022 2023 2024", of CELLS="463 464" or the whole grid, would do and cost
	$(ASK) plan $(WANTED) $(ARGS)

enqueue:  ## Enqueue YEARS="2022 2023 2024", of CELLS="463 464" or the whole grid
	$(ASK) enqueue $(WANTED) $(ARGS)

status:  ## Containers, and units by stage, year and state
	$(STACK) ps
	$(ASK) status $(ARGS)

watch:  ## Stages, rate and time left, again and again
	$(STACK) exec worker-control eo-tasks status --watch

runs:  ## List runs
	$(ASK) runs $(ARGS)

pause:  ## Start nothing more of RUN=latest or an id
	$(ASK) pause $(RUN)

resume:  ## Have RUN=latest or an id go on
	$(ASK) resume $(RUN)

stop:  ## Finish what is started of RUN=latest or an id, and end it there
	$(ASK) stop $(RUN)

cancel:  ## End RUN=latest or an id now
	$(ASK) cancel $(RUN)

errors:  ## What failed, by kind, with numbers and examples
	$(ASK) errors

retry:  ## Try failed units again; CELL=1041 YEAR=2021 STAGE=btc ERROR=SourceError for some, CANARY=5 for a few first
	$(ASK) retry $(if $(CELL),--cell $(CELL)) $(if $(YEAR),--year $(YEAR)) \
	  $(if $(STAGE),--stage $(STAGE)) $(if $(ERROR),--error $(ERROR)) $(if $(CANARY),--canary $(CANARY))

report:  ## Write report.html, FORMAT=csv or json; ARGS="--run latest" for one run
	$(ASK) report --format $(FORMAT) -o - $(ARGS) > .report.part && mv .report.part report.$(FORMAT) \
	  || { rm -f .report.part; exit 1; }

doctor:  ## What keeps the system from going on
	$(ASK) doctor $(ARGS)

download:  ## Make composites in one worker's container, past the queue; YEARS, CELLS
	$(STACK) exec -T worker-cpu eo-tasks download $(WANTED)

store:  ## Store composites that were downloaded so; YEARS, CELLS
	$(STACK) exec -T worker-cpu eo-tasks store $(WANTED)

##--- Backup

backup: env  ## Copy all that is stored into the folder TO=/mnt/backup; again: what is new
	@test -n "$(TO)" || { echo "Name a folder of this machine: make backup TO=/mnt/backup/country"; exit 1; }
	@mkdir -p "$(TO)"
	$(STACK) run --rm --no-deps -T --user "$$(id -u):$$(id -g)" -v "$(abspath $(TO)):/backup" worker-control \
	  eo-tasks backup /backup $(ARGS)

restore: env  ## Copy the backup FROM=/mnt/backup to where it was; what was made since stays
	@test -n "$(FROM)" && test -d "$(FROM)" || { echo "Name the backup's folder: make restore FROM=/mnt/backup/country"; exit 1; }
	$(STACK) run --rm --no-deps -T -v "$(abspath $(FROM)):/backup:ro" worker-control eo-tasks restore /backup $(ARGS)

##--- The containers themselves

shell:  ## A shell in the control worker
	$(STACK) exec worker-control bash

clean:  ## Stop everything and delete the containers' data; asks first
	@printf 'Delete all images, masks and task state of the containers? [y/N] '; read answer; [ "$$answer" = y ]
	$(STACK) down -v
