PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SHARED ?= ../shared/data

# Threads that spin while they wait make two busy processes on two cores about ten times slower, not twice.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo demo-real test lint bench gpu-check train-psenet mamba-ssm mmcv-ops clean

demo: $(STAMP)
	$(BIN)/llie demo --out demo_output

demo-real: $(STAMP)
	$(BIN)/llie demo --out demo_output/real --real $(SHARED)

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m benchmarks.psenet_inference
	$(BIN)/python -m benchmarks.selective_scan
	$(BIN)/python -m benchmarks.large_images

# On a machine with a CUDA device: the tests that need one, the scan's (which take it), then the benchmarks on it.
gpu-check: $(STAMP)
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python -m pytest tests/ops
	$(BIN)/python -m benchmarks.psenet_inference --device cuda
	$(BIN)/python -m benchmarks.selective_scan --device cuda --length 65536
	$(BIN)/python -m benchmarks.large_images --device cuda

# mamba-ssm's CUDA kernel for the torch of this environment, from source; wants nvcc. 'llie list --backends' says
# whether it loads.
mamba-ssm: $(STAMP)
	$(BIN)/python -m pip install "setuptools>=80,<82" wheel ninja packaging einops
	MAMBA_KEEP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE $(BIN)/python -m pip install --no-build-isolation \
	  --no-cache-dir --no-deps --no-binary mamba-ssm "mamba-ssm>=2.2,<3"

# The paper's schedule; wants a GPU. DATA: SICE part 1. PAIRS: a folder with low/ and high/.
train-psenet: $(STAMP)
	$(BIN)/python -m training.train mm_configs/enhancers/psenet_sice.py --resume --cfg-options \
	  train_dataloader.dataset.folder=$(DATA) val_dataloader.dataset.low=$(PAIRS)/low val_dataloader.dataset.high=$(PAIRS)/high

# mmcv's own operators, compiled for the torch of this environment; always from source, because pip keeps built
# wheels without regard to the torch version. FORCE_CUDA=1 make mmcv-ops for a GPU.
mmcv-ops: $(STAMP)
	$(BIN)/python -m pip install "setuptools>=80,<82" wheel ninja packaging psutil
	CFLAGS=-g0 MAX_JOBS=$${MAX_JOBS:-2} $(BIN)/python -m pip install --no-build-isolation --no-cache-dir --no-deps \
	  --no-binary onedl-mmcv --force-reinstall "$$(grep '^onedl-mmcv==' constraints.txt)"

$(STAMP): pyproject.toml setup.cfg constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	@# Of the two OpenCV builds that MMCV's dependencies bring, the one installed last wins; without libGL only this runs.
	$(BIN)/python -c "import cv2" 2>/dev/null || \
	  $(BIN)/python -m pip install --force-reinstall --no-deps -c constraints.txt opencv-python-headless
	touch $@

clean:
	rm -rf $(VENV) demo_output build dist *.egg-info
