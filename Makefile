PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SHARED ?= ../shared/data
DEVICE ?= cpu
ZOO ?= benchmarks/results/mmdet_zoo_cpu_2_cores.json

# Threads that spin while they wait make two busy processes on two cores about ten times slower, not twice.
export OMP_WAIT_POLICY ?= PASSIVE
# What is compiled once, such as pytest's rewritten tests, is kept: reading the tests takes as long again without it.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo demo-real faces-retention small-sam zoo gallery joint-training test test-slow lint bench gpu-check gpu-train gpu-weights train-lol40 train-psenet mamba-ssm mmcv-ops clean

demo: $(STAMP)
	$(BIN)/llie demo --out demo_output

demo-real: $(STAMP)
	$(BIN)/llie demo --out demo_output/real --real $(SHARED)

# Faces that MTCNN finds again in gamma-shifted crowds, raw and behind enhancers: the table of docs/faces.md.
faces-retention: $(STAMP)
	$(BIN)/llie faces --dataset folder --images $(SHARED)/faces/unlabelled \
	  --gammas 0.1 0.2 0.4 0.6 1 1.5 2.5 5 8 10 \
	  --enhancer none gammacorrection clahe zerodce@$(SHARED)/reference_weights/zero_dce_official.safetensors \
	  psenet official=psenet@$(SHARED)/reference_weights/psenet_sice_official.safetensors adaptivegamma \
	  --resume --out work_dirs/faces_retention

# A small SAM trained on rendered scenes, and what darkness does to its masks: the tables of docs/segmentation.md.
# DEVICE=cuda for a GPU.
small-sam: $(STAMP)
	$(BIN)/python -m benchmarks.small_sam train --out work_dirs/small_sam --device $(DEVICE)
	$(BIN)/python -m benchmarks.small_sam measure --weights work_dirs/small_sam/small_sam.safetensors \
	  --reference-weights $(SHARED)/reference_weights --out work_dirs/small_sam --device $(DEVICE)

# Every family of the installed MMDetection, plain and behind an enhancer: the table of docs/zoo.md.
zoo: $(STAMP)
	$(BIN)/python -m benchmarks.mmdet_zoo --out $(ZOO)
	$(BIN)/python -m benchmarks.mmdet_zoo --table $(ZOO) > docs/zoo.md

# Every shipped network on the same eight pictures: docs/gallery.md, to be made again when weights are shipped.
gallery: $(STAMP)
	$(BIN)/python -m benchmarks.gallery --out docs/images/gallery --page docs/gallery.md

# Raw, frozen and joint with equal budgets, on rendered scenes and on a few pictures of ExDark: the tables of docs/joint.md.
joint-training: $(STAMP)
	$(BIN)/python -m benchmarks.joint_training night --out work_dirs/joint_night --seeds 3
	$(BIN)/python -m benchmarks.joint_training exdark $(SHARED)/exdark/images $(SHARED)/exdark/bbGt --out work_dirs/joint_exdark \
	  --day work_dirs/joint_night --iterations 150

# A process for each of a few cores, with one thread each: twice as fast as one process with two threads.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 20

# The fast suite, with examples of the tests that have many cases; 'make test-slow' runs the rest, '.ci/run' all of it.
test: $(STAMP)
	$(PYTEST) -m "not (slow or further)"

test-slow: $(STAMP)
	$(PYTEST) -m "slow or further"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m benchmarks.psenet_inference
	$(BIN)/python -m benchmarks.selective_scan
	$(BIN)/python -m benchmarks.large_images
	$(BIN)/python -m benchmarks.convert_annotations
	$(BIN)/python -m benchmarks.detection_scores
	$(BIN)/python -m benchmarks.dsfd_forward
	$(BIN)/python -m benchmarks.detector_overhead

# On a machine with a CUDA device: the tests that need one, the scan's (which take it), then the benchmarks on it.
gpu-check: $(STAMP)
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python -m pytest tests/llie_preproc/ops
	$(BIN)/python -m benchmarks.psenet_inference --device cuda
	$(BIN)/python -m benchmarks.selective_scan --device cuda --length 65536
	$(BIN)/python -m benchmarks.large_images --device cuda
	$(BIN)/python -m benchmarks.dsfd_forward --device cuda
	$(BIN)/python -m benchmarks.detector_overhead --device cuda

# mamba-ssm's CUDA kernel for the torch of this environment, from source; needs nvcc. 'llie list --backends' says
# whether it loads.
mamba-ssm: $(STAMP)
	$(BIN)/python -m pip install "setuptools>=80,<82" wheel ninja packaging einops
	MAMBA_KEEP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE $(BIN)/python -m pip install --no-build-isolation \
	  --no-cache-dir --no-deps --no-binary mamba-ssm "mamba-ssm>=2.2,<3"

# The paper's schedule; needs a GPU. DATA: SICE part 1. PAIRS: a folder with low/ and high/.
train-psenet: $(STAMP)
	$(BIN)/llie train mm_configs/enhancers/psenet_sice.py --resume --cfg-options \
	  train_dataloader.dataset.folder=$(DATA) val_dataloader.dataset.low=$(PAIRS)/low val_dataloader.dataset.high=$(PAIRS)/high

# mmcv's own operators, compiled for the torch of this environment; always from source, because pip keeps built
# wheels without regard to the torch version. FORCE_CUDA=1 make mmcv-ops for a GPU.
mmcv-ops: $(STAMP)
	$(BIN)/python -m pip install "setuptools>=80,<82" wheel ninja packaging psutil
	CFLAGS=-g0 MAX_JOBS=$${MAX_JOBS:-2} $(BIN)/python -m pip install --no-build-isolation --no-cache-dir --no-deps \
	  --no-binary onedl-mmcv --force-reinstall "$$(grep '^onedl-mmcv==' constraints.txt)"

# Every method on 40 pairs of LOL-v1, below an hour on one CPU core. DATA: has lol_v1/our485 and unpaired.
train-lol40: $(STAMP)
	$(BIN)/python -m benchmarks.lol_training $(DATA)

# The trainings behind the shipped weights of the papers' networks, side by side on a GPU in twelve minutes at most.
# DATA: as benchmarks/timed_training.py says. On a CPU, one after the other: benchmarks.timed_training --only NAME.
gpu-weights: $(STAMP)
	$(BIN)/python -m benchmarks.timed_training $(DATA) --minutes 11 --work-dir work_dirs/weights \
	  --out work_dirs/weights/result.json --set train_dataloader.num_workers=3 train_dataloader.persistent_workers=True

# Every method on 40 pairs at 256x256 on a GPU, then PSENet's full schedule and IAMLUNet by mirror distillation. DATA as
# for train-lol40, and sice_part1_256.
gpu-train: $(STAMP)
	$(BIN)/python -m benchmarks.lol_training $(DATA) --crop 256 --iterations 1500 --work-dir work_dirs/lol40_gpu
	$(MAKE) train-psenet DATA=$(DATA)/sice_part1_256 PAIRS=$(DATA)/lol_v1/our485
	LOLV1_ROOT=$(DATA)/lol_v1 $(BIN)/llie train mm_configs/enhancers/lol40/mirror_iaml_unet.py --resume --amp \
	  --out work_dirs/iaml_gpu --cfg-options model.enhancer.width=32 model.enhancer.depth=4 \
	  train_dataloader.dataset.transforms.0.size=256 train_cfg.max_iters=10000 train_cfg.val_interval=1000 \
	  param_scheduler.1.end=10000
	$(BIN)/python -m benchmarks.joint_training visdrone $(DATA)/visdrone_samples/images \
	  $(DATA)/visdrone_samples/labels_yolo --out work_dirs/joint_visdrone --seeds 3

$(STAMP): pyproject.toml setup.cfg constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	@# Of the two OpenCV builds that MMCV's dependencies bring, the one installed last wins; without libGL only this runs.
	$(BIN)/python -c "import cv2" 2>/dev/null || \
	  $(BIN)/python -m pip install --force-reinstall --no-deps -c constraints.txt opencv-python-headless
	touch $@

clean:
	rm -rf $(VENV) demo_output build dist *.egg-info
