# Everything a developer or a new user types. `make up` and `make test` are the two that the README promises.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
LAB := deploy/lab/lab

.PHONY: vm up down test unit lint format proto proto-check lock bench soak-log soak-raft soak-managers soak-failover soak-kill soak-network soak-fuzz soak-serf soak-mtu soak-idle ci clean

up: ## A three-node swarm on this machine, with a service behind its routing mesh
	@deploy/lab/demo.sh

down: ## Takes it all away again
	@$(LAB) down

$(VENV)/.ready: pyproject.toml deploy/requirements-dev.lock
	@deploy/lab/host-packages.sh
	@test -x $(PY) || python3 -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements-dev.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

test: $(VENV)/.ready ## All tests; boots the lab once (root)
	@deploy/lab/host-packages.sh --tests
	@$(PY) -m pytest

unit: $(VENV)/.ready ## Tests that need neither root nor the lab
	@$(PY) -m pytest tests/unit tests/simulation

lint: $(VENV)/.ready
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

format: $(VENV)/.ready
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

proto: $(VENV)/.ready ## Protobuf modules and dataclasses from proto/
	@$(PY) proto/generate.py

proto-check: $(VENV)/.ready ## Fails when what is committed is not what proto/ gives
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && $(PY) proto/generate.py "$$out" && \
	 diff -r -x __pycache__ -x __init__.py -x py.typed "$$out/common/pb" common/pb && \
	 diff "$$out/common/model/generated.py" common/model/generated.py && \
	 diff "$$out/common/model/stubs.py" common/model/stubs.py

lock: $(VENV)/.ready ## Newest versions that pyproject.toml allows, with hashes
	@$(PY) -m pip install --quiet uv
	@$(VENV)/bin/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml -o deploy/requirements.lock
	@$(VENV)/bin/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-annotate --no-header --extra dev pyproject.toml -o deploy/requirements-dev.lock

SEED ?= 1
soak-log: N = 200
soak-log: $(VENV)/.ready ## Kills a writer of the log N times (by hand); goes on where it was
	@$(PY) -m tests.soak.log $(N) $(SEED)

bench: $(VENV)/.ready ## Beside a real Docker Swarm, in one run, then the data path beside a hand-made one (by hand, root: an hour and a half)
	@$(PY) -m benchmarks.swarm
	@$(PY) -m benchmarks.network

FIRST ?= 0
soak-raft: N = 100000
soak-raft: $(VENV)/.ready ## The agreement, simulated N times from seed FIRST on; goes on where it was stopped (by hand)
	@$(PY) -m tests.soak.raft --runs $(N) --first $(FIRST)

soak-managers: N = 5000
soak-managers: $(VENV)/.ready ## Whole managers, simulated N times from seed FIRST on; goes on where it was stopped (by hand)
	@$(PY) -m tests.soak.managers --runs $(N) --first $(FIRST)

soak-failover: N = 50
soak-failover: $(VENV)/.ready ## How long a write waits when the leader is lost, N times in each of four ways (by hand, root)
	@$(PY) -m tests.soak.failover --times $(N)

soak-kill: N = 200
soak-kill: $(VENV)/.ready ## N kills of managers, N/4 damaged logs, N/20 rolling restarts, N/8 rounds of changes: histories judged (by hand, root)
	@$(PY) -m tests.soak.kill --kills $(N) --damages $$(($(N) / 4)) --rolls $$(($(N) / 20)) --losses $$(($(N) / 25)) --changes $$(($(N) / 8))

soak-network: N = 1000
soak-network: $(VENV)/.ready ## N cycles of services, kills, cuts and restarts, each machine's network compared with the store, from seed FIRST on; goes on where it was stopped (by hand, root)
	@$(PY) -m tests.soak.network --runs $(N) --first $(FIRST)

soak-fuzz: N = 1000000
soak-fuzz: $(VENV)/.ready ## N bad inputs each at gossip, DNS and HTTP, from seed FIRST on; goes on where it was stopped (by hand)
	@$(PY) -m tests.soak.fuzz --runs $$(($(N) / 1000)) --first $(FIRST)

soak-serf: N = 5
soak-serf: $(VENV)/.ready ## Ten members of ours among ten of serf's, N kills of each, plain and sealed (by hand, root)
	@$(PY) -m tests.soak.serf --kills $(N)

soak-mtu: N = 1500
soak-mtu: $(VENV)/.ready ## Transfers at every MTU from 1280 to N, of cables and of networks, and at some up to 9000 (by hand, root)
	@$(PY) -m tests.soak.mtu --most $(N)

soak-idle: N = 600
soak-idle: $(VENV)/.ready ## TCP connections that are silent for N seconds, by every way, and then go on (by hand, root)
	@$(PY) -m tests.soak.idle --seconds $(N)

vm: $(VENV)/.ready ## Encrypted networks between three virtual machines with Debian's kernel, seen on the wire (by hand, root)
	@deploy/lab/host-packages.sh --vm
	@$(PY) -m tests.vm

ci:
	@.ci/run

clean: down
	rm -rf build dist $(VENV) *.egg-info
