# Two commands to know: `make demo` (the whole way on a small data set) and `make test`.
PYTHON ?= python3
BIN = .venv/bin
# What is best from scratch in few epochs; crops and mixup pay in many.
SHORT ?= --crop 0 --mixup 0

.PHONY: demo caltech test backends exports bench reach faults clean

demo: .venv/ready
	$(BIN)/python prepro.py --sample --image-size 32 --target-per-class 0
	$(BIN)/python train.py --data datasets/digits.h5 --model models/digits.h5 \
		--num-epochs 6 $(SHORT) --no-mirror --restart --tensorboard-vis
	$(BIN)/python predict.py --model models/digits.h5 \
		"$$($(BIN)/python -m classifier.data.arrays datasets/digits.h5 --held-out)"
	@echo "model:  models/digits.h5"
	@echo "curves: $(BIN)/tensorboard --logdir=./logs"
	@echo "next:   make caltech   (the same on the 8,677 photographs of Caltech-101)"

# ARCHIVE=FILE takes an archive at hand instead of downloading it; TARGET=800 EPOCHS=50 SHORT= is the
# original's effort, for a GPU.
TARGET ?= 200
EPOCHS ?= 3
caltech: .venv/ready
	$(BIN)/python prepro.py $(if $(ARCHIVE),--archive "$(ARCHIVE)",--download) \
		--target-per-class $(TARGET)
	$(BIN)/python train.py --num-epochs $(EPOCHS) $(SHORT) --tensorboard-vis --resume
	$(BIN)/python predict.py images/test.jpg
	@echo "model:  models/resnet50.h5"
	@echo "curves: $(BIN)/tensorboard --logdir=./logs"
	@echo "next:   $(BIN)/python predict.py FILE"

test: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

# Training on JAX and on PyTorch, each in an environment without TensorFlow. JAX compiles each step
# anew in each process, unless it has a place to keep it.
KERAS_TESTS = $(addprefix tests/test_,fit.py fused.py callback.py checkpoint.py optimizer.py train.py) \
	-k "not test_train or resumed or fitted_anew or rate_is_found or plain_keras" --dist worksteal
backends: .venv/ready-dev .venv-jax/ready .venv-torch/ready
	$(BIN)/python -m pytest tests/test_backends.py tests/test_processes.py
	JAX_COMPILATION_CACHE_DIR=$(CURDIR)/.venv-jax/compiled JAX_DISABLE_MOST_OPTIMIZATIONS=1 \
		JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 .venv-jax/bin/python -m pytest $(KERAS_TESTS)
	.venv-torch/bin/python -m pytest $(KERAS_TESTS)

# The tests of exported models, none skipped for lack of a runtime.
exports: .venv/ready-export
	$(BIN)/python -m pytest tests/test_export.py

# ROWS="train-64 prepro" measures these alone; the machine should have nothing else to do.
bench: .venv-bench/ready
	.venv-bench/bin/python benchmarks/speed.py $(ROWS)

# Figures of what goes beyond the default.
reach: .venv/ready-export .venv-jax/ready .venv-torch/ready
	$(BIN)/python benchmarks/reach.py $(ROWS)

# Under half an hour; ROWS="stop archives" tries these alone.
faults: .venv/ready-faults
	$(BIN)/python benchmarks/faults.py $(ROWS)

.venv/ready: requirements.txt requirements-base.txt requirements-predict.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/ready-dev: requirements-dev.txt .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

# Where an index that a file names cannot be reached, pip goes on without it.
.venv-%/ready: requirements-%.txt requirements-base.txt requirements-predict.txt requirements-dev.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check \
		-r requirements-base.txt -r requirements-dev.txt
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --retries 1 -r $<
	touch $@

.venv/ready-export: requirements-export.txt .venv/ready-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-export.txt
	touch $@

.venv/ready-faults: benchmarks/faulty/requirements.txt requirements-export.txt .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-r benchmarks/faulty/requirements.txt
	touch $@

.venv-bench/ready: benchmarks/requirements.txt requirements.txt requirements-base.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check \
		-r benchmarks/requirements.txt
	touch $@

clean:
	rm -rf .venv .venv-bench .venv-jax .venv-torch .pytest_cache .ruff_cache
