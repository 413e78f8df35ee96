# The commands of Interlock. Each makes its environment first, if needed; `make help` lists them.
#
#   make up PYTHON=/path/to/python3.12        another Python for the environment
#   make demo RELEASE=1.2.0                   another release than 1.1.0
#   make up INTERLOCK_AIRFLOW_PORT=9090           another port; every setting is in include/interlock/estate/settings.py

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed
TESTED := .venv/.installed-test
INTERLOCK := $(BIN)/python -m interlock
STACK := $(INTERLOCK) stack
UI := include/interlock/console/ui
export PYTHONPATH := $(CURDIR)/include
define MAKE_ENVIRONMENT
command -v $(PYTHON) > /dev/null || \
    { echo "interlock: no $(PYTHON) here; install Python 3.11 or name one: make up PYTHON=/path/to/python3.11" >&2; exit 1; }; \
    $(PYTHON) include/interlock/estate/bootstrap.py
endef
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes $(if $(UPGRADE),--upgrade)

.DEFAULT_GOAL := help
.PHONY: help install up demo cluster down status hosts logs reset evidence test test-cluster thorough tools attacks faults chaos migrations mutated-releases told-changes mutation \
        bench-fanout bench-schedule bench-verify bench-permits bench-dags bench-ledger bench-reconcile bench-board bench-forecast bench-waiting bench-others bench-canary bench-environments lint format catalogue trains schemas policy-backtest lock api ui

help: ## list the commands
	@sed -n 's/^\([a-z%-]*\):.*## /  make \1\t/p' Makefile | expand -t 24

install: $(READY) ## make the environment in .venv (every other command does this by itself)

$(READY): requirements.lock requirements-build.lock include/interlock/estate/bootstrap.py
	@$(MAKE_ENVIRONMENT)

$(TESTED): requirements-test.lock requirements-build.lock include/interlock/estate/bootstrap.py
	@$(MAKE_ENVIRONMENT) test

up: $(READY) ## start everything, and print the address and the logins
	@$(STACK) up

demo: $(READY) ## start everything, release the bike shop and show the ten stages live
	@$(STACK) demo

cluster: $(READY) ## start everything as a cluster has it: Celery, PgBouncer, a broker, two of each component
	@INTERLOCK_ENGINE=cluster $(STACK) up

cluster-%: ## the same on the cluster: make cluster-demo, -status, -hosts, -logs, -evidence, -down, -reset
	@$(MAKE) --no-print-directory $* INTERLOCK_ENGINE=cluster

down: ## stop everything that was started here, and nothing else (a cluster: make cluster-down)
	@test ! -f $(READY) || $(STACK) down

status: $(READY) ## say what runs
	@$(STACK) status

hosts: $(READY) ## list the embedded hosts: address, tags, target groups
	@$(STACK) hosts

logs: $(READY) ## follow the logs of all components
	@$(STACK) logs

reset: $(READY) ## stop everything and delete its state
	@$(STACK) reset

evidence: $(READY) ## write the evidence pack of a release to a file (RUN=<dag id>/<run id>, FILE=…)
	@$(INTERLOCK) evidence --stack -- '$(RUN)' $(if $(FILE),'$(FILE)')

test: tools $(TESTED) ## run all tests; the fifteen slowest are listed at the end (ORDER=random: shuffled)
	@$(if $(ORDER),INTERLOCK_TEST_ORDER=$(ORDER) )$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --durations=15 $(PYTEST)

test-cluster: tools $(TESTED) ## a release, a rollback and a train on the cluster: the same end-to-end tests as make test
	@INTERLOCK_ENGINE=cluster $(BIN)/python -m pytest -n 3 --dist loadfile $(addprefix tests/end_to_end/test_,release.py rollback.py trains.py)

thorough: $(TESTED) ## try the property tests with ten times as many examples as make test (some minutes)
	@INTERLOCK_HYPOTHESIS=thorough $(BIN)/python -m pytest -n auto --dist loadfile tests/unit

tools: ## see that the machine has what the tests need; as root of a Debian, install it
	@.ci/tools

attacks: $(TESTED) ## try to get round the board, in every way we know (about half an hour)
	@$(BIN)/python -m tests.attacks

faults: $(TESTED) ## break deployments to real SSH hosts at random moments (TRIALS=200, SEED=…)
	@$(BIN)/python -m tests.faults --trials $(or $(TRIALS),200) $(if $(SEED),--seed $(SEED))

chaos: tools $(TESTED) ## release without pause on a cluster whose components are killed, stopped and cut off (MINUTES=10, SEED=…, ONLY=broker)
	@$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY))

migrations: $(TESTED) ## release generated pairs of versions that change a database, with faults (PAIRS=500, SEED=…)
	@$(BIN)/python -m tests.migrations --pairs $(or $(PAIRS),500) $(if $(SEED),--seed $(SEED))

mutated-releases: $(TESTED) ## request releases with changed bytes, attestations or identities of a whole stack (MUTATIONS=200, SEED=…)
	@$(BIN)/python -m tests.mutated_releases --mutations $(or $(MUTATIONS),200) $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

mutation: $(TESTED) ## change the code of votes, permits and ledger in every small way: do the tests notice? (some minutes)
	@nice $(BIN)/python -m tests.mutation

bench-fanout: $(TESTED) ## time a deployment to many SSH hosts beside OpenSSH alone (HOSTS=40, MIB=0.0625,20, ROUNDS=3)
	@$(BIN)/python -m benchmarks.fanout --hosts $(or $(HOSTS),40)$(if $(MIB), --mib $(MIB)) --rounds $(or $(ROUNDS),3)

bench-schedule: $(TESTED) ## time trains and calendars for 1,000 services (ROUNDS=3)
	@$(BIN)/python -m benchmarks.schedule --rounds $(or $(ROUNDS),3)

bench-verify: $(TESTED) ## time the proof of an evidence pack with a long chain (ENTRIES=10000, ROUNDS=5)
	@$(BIN)/python -m benchmarks.verify --entries $(or $(ENTRIES),10000) --rounds $(or $(ROUNDS),5)

bench-permits: $(TESTED) ## time the check of a permit on a host, and what a permit of a large fleet compares (HOSTS=1000)
	@$(BIN)/python -m benchmarks.permits --hosts $(or $(HOSTS),1000)

bench-dags: $(TESTED) ## measure Airflow's Dag processor with 1,000 services, and how soon an edit shows (SERVICES=1000)
	@$(BIN)/python -m benchmarks.dags --services $(or $(SERVICES),1000)

bench-environments: $(TESTED) ## tell what the environments before production added to a release of the stack (RUN=<dag id>/<run id>)
	@$(BIN)/python -m benchmarks.environments '$(RUN)'

bench-ledger: $(TESTED) ## time what a permit's check asks of a ledger with 100,000 entries (ENTRIES=100000)
	@$(BIN)/python -m benchmarks.ledger --entries $(or $(ENTRIES),100000)

bench-board: $(TESTED) ## time the API of the page Board for 1,000 services and 100,000 entries (SERVICES=1000, ROUNDS=100)
	@$(BIN)/python -m benchmarks.board --services $(or $(SERVICES),1000) --rounds $(or $(ROUNDS),100)

bench-forecast: $(TESTED) ## count how often forecasts of releases hold, on generated histories (RELEASES=300)
	@$(BIN)/python -m benchmarks.forecast --releases $(or $(RELEASES),300)

bench-reconcile: $(TESTED) ## time a look of reconcile at 200 releases under way, with 100,000 entries in the ledger (RELEASES=200)
	@$(BIN)/python -m benchmarks.reconcile --releases $(or $(RELEASES),200)

bench-waiting: $(TESTED) ## measure what releases that wait for their boards cost the API server (WAITING=0,50,200)
	@$(BIN)/python -m benchmarks.waiting$(if $(WAITING), --waiting $(WAITING))

bench-others: $(TESTED) ## measure what requests of other teams to Airflow's API are slower by (REQUESTS=2000)
	@$(BIN)/python -m benchmarks.others --requests $(or $(REQUESTS),2000)

bench-canary: $(TESTED) ## count the wrong verdicts on a canary's errors, by canaries whose truth is known (TRIALS=1000)
	@$(BIN)/python -m benchmarks.canary --trials $(or $(TRIALS),1000)

lint: $(TESTED) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(TESTED) ## put the code into shape
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

catalogue: $(READY) ## say what is wrong in include/catalogue
	@$(INTERLOCK) catalogue check --stack

trains: $(READY) ## print the next departures of each train, which services would board now, and why others would not
	@$(INTERLOCK) trains --stack

schemas: $(READY) ## write the JSON Schemas of the catalogue and of ledger entries, and the copies of the ledger's vocabulary
	@$(INTERLOCK) catalogue schemas
	@$(BIN)/python -m interlock.adapters.ledger.vocabulary

told-changes: $(TESTED) ## tell ServiceNow of 10,000 releases through a proxy that breaks 30 % of all calls (CHANGES=…, SEED=…, SHARE=…, OUTAGE=…)
	@$(BIN)/python -m tests.told_changes $(or $(CHANGES),10000) $(or $(SEED),16) $(or $(SHARE),0.3) $(or $(OUTAGE),5)

policy-backtest: $(READY) ## try the catalogue's changes against past releases (RELEASES=…, OLD=…, NEW=…)
	@$(INTERLOCK) policy-backtest --stack $(if $(RELEASES),--releases '$(RELEASES)') $(if $(OLD),--old '$(OLD)') $(if $(NEW),--new '$(NEW)')

api: $(TESTED) ## write the OpenAPI document of the API into docs/openapi.json
	@$(BIN)/python -m interlock.console.api.document docs/openapi.json

ui: api ## build the pages made with React, as their package-lock.json says (needs npm)
	@cd $(UI) && npm ci --ignore-scripts --no-audit --no-fund && npm run --silent client && npm run --silent check \
	    && npm run --silent build
	@rm -rf $(UI)/node_modules

lock: $(READY) ## resolve the requirements again (UPGRADE=1: to the newest versions that they allow)
	@$(LOCK) requirements-test.txt -o requirements-test.lock
	@$(LOCK) requirements-embedded.txt -c requirements-test.lock -o requirements.lock
	@$(LOCK) requirements-build.txt -o requirements-build.lock
