# `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV   ?= .venv
README ?= README.md
OUT    ?= out
DATA   ?= $(or $(TTL_NB_REAL_DATA),../shared/data)
ONLY   ?=
BIN    := $(VENV)/bin

# One intra-op thread a process, parallelism across processes; no window for a plot.
export OMP_NUM_THREADS = 1
export MPLBACKEND = agg

.PHONY: help install test slow sync readme demo real sources claims bench benchspeed benchsimilarity benchui benchscaling benchgpu benchquality benchclassroom benchpage pictures recording docs dist tryout lowest clean

help: ## list these targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 24

install: $(VENV)/.installed ## create .venv and install the package with what the tests use (PYTHON=python3)

$(VENV)/.installed: settings.ini setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(if $(wildcard $@),--quiet,--progress-bar on) -e '.[dev]'
	touch $@

test: ## everything CI checks; ONLY=nbs/data/30_domain.ipynb or ONLY=tests/test_floors.py runs one
	@VENV=$(VENV) $(PYTHON) tests/run.py $(ONLY)

slow: install ## the notebook cells and tests marked slow
	PATH="$(CURDIR)/$(BIN):$$PATH" nbdev-test --n-workers 2 --flags slow
	$(BIN)/pytest -m slow || [ $$? = 5 ]  # 5: there are none

sync: install ## clean the notebooks and export them to ttl_nb/
	PATH="$(CURDIR)/$(BIN):$$PATH"; nbdev-clean && nbdev-export

readme: install ## write README.md from nbs/index.ipynb
	$(BIN)/jupyter nbconvert --log-level ERROR --to markdown --stdout nbs/index.ipynb \
	  --RegexRemovePreprocessor.enabled=True --RegexRemovePreprocessor.patterns='^#\|\s*hide' \
	  | awk '/^```/ {if (!code && $$0 == "```") $$0 = "```python"; code = !code} !/^#\|/' | sed 's#](images/#](nbs/images/#' | cat -s > $(README)

# The whole story on what the package brings: simulated targets, ready sources, a study, a report. No network.
demo: install ## sources, freezing plans and training-set sizes compared on simulated radiographs (report in OUT)
	$(BIN)/ttl-nb demo --folder $(OUT)/demo

# The same study on real radiographs of DATA: three sources (four pretrainings each) and one target.
# On 2 cores: ten minutes for the pretrainings and fifteen for the study, which goes on where it was stopped.
real: $(OUT)/natural-3.safetensors $(OUT)/knee-3.safetensors $(OUT)/chest-3.safetensors ## the same on real radiographs (DATA=…, OUT=out)
	$(BIN)/ttl-nb study --target $(DATA)/chest_kermany/labels.csv \
	  --source 'natural=$(OUT)/natural-*.safetensors' --source 'knee=$(OUT)/knee-*.safetensors' \
	  --source 'chest=$(OUT)/chest-*.safetensors' --source none --n-train 50 --n-train 100 --n-train 200 \
	  --freezing head --freezing full --freezing gradual --seeds 12 --image-size 64 --folder $(OUT)/study

natural_data = natural_cifar10
knee_data    = knee_oai
chest_data   = chest_nih
$(OUT)/%-3.safetensors: | install
	mkdir -p $(OUT)
	$(BIN)/ttl-nb pretrain $(DATA)/$($*_data)/labels.csv --out $(OUT)/$*.safetensors \
	  --max-images 662 --seeds 4 --image-size 64

# The sources in the package, trained again from the same phantoms (size-matched; 20 minutes on 2 cores).
sources: install ## train the ready sources anew into ttl_nb/models/
	for s in natural limb chest; do $(BIN)/ttl-nb pretrain phantom-$$s --out ttl_nb/models/phantom-$$s.safetensors \
	  --image-size 96 --max-images 4800 --seeds 3 --epochs 12 --half; done

# The paper's claims 3 to 6 on the same images: 15 pretrainings and 650 runs, an hour and a half on 2 cores; what has run is not run again.
# Without --no-thorough the first k stages are transferred, too, and sources are taken as they come.
claims: install ## claims 3 to 6 on real radiographs, table and figures into nbs/claims/ (DATA=…, OUT=out)
	$(BIN)/ttl-nb replicate changing reuse other_body_part same_body_part --data $(DATA) --target chest_kermany \
	  --generic natural_cifar10 --other knee_oai --same chest_nih --halves generic=airplane,automobile,ship,truck \
	  --no-thorough --folder $(OUT)/claims
	mkdir -p nbs/claims
	cp $(OUT)/claims/claims.md nbs/claims/index.md
	cp $(OUT)/claims/*.svg nbs/claims/

bench: install ## speed, similarity, ui, scaling (and gpu where there is a card), and one table of what is in OUT (OUT/benchmarks.md; a quiet machine, 40 minutes)
	missed=; card=$$($(BIN)/python -c 'import torch; print("gpu"*torch.cuda.is_available())'); \
	  for b in speed similarity ui scaling $$card; do $(MAKE) --no-print-directory bench$$b || missed="$$missed $$b"; done; \
	  $(BIN)/python benchmarks/table.py $(OUT); test -z "$$missed" || { echo "not every figure was reached:$$missed"; exit 1; }

benchpage: install ## what was found so far into the docs (OUT to nbs/benchmarks/)
	$(BIN)/python benchmarks/table.py $(OUT) nbs/benchmarks

benchspeed: ## speed against fastai, line by line, with the equality of results (OUT/speed.json; a quiet machine, 15 minutes)
benchsimilarity: ## speed and memory of CKA against torch-cka, with the equality of results (OUT/similarity.json; a quiet machine, 10 minutes)
benchui: ## the playground in a real browser: first point, stop, memory, reloads (OUT/ui.json; a quiet machine, 6 minutes)
benchscaling: ## how time and memory grow with images, runs and seats (OUT/scaling.json and .png; a quiet machine, 6 minutes)
benchgpu: ## images a second on a card against fastai and a plain loop (OUT/gpu.json; 10 minutes)
benchquality: ## AUC against seconds beside fastai and a plain loop (OUT/quality.json and .png; a quiet machine, 30 minutes)
benchclassroom: ## thirty seats opened at once, all training, an hour of random clicking (OUT/classroom.json; a quiet machine, 75 minutes)

benchspeed benchsimilarity benchui benchscaling benchgpu benchquality benchclassroom: bench%: install
	mkdir -p $(OUT)
	$(BIN)/python benchmarks/$*.py --json $(OUT)/$*.json $(if $(filter scaling quality,$*),--picture $(OUT)/$*.png)

pictures: install ## draw the contact sheets of the phantoms into nbs/images/
	mkdir -p nbs/images
	$(BIN)/python -c 'from ttl_nb.data.catalog import phantom; from ttl_nb.data.phantom import KINDS; \
	  from ttl_nb.data.contact_sheet import contact_sheet; \
	  [contact_sheet(phantom(k, 400, size=192), 8, 192).figure.savefig(f"nbs/images/{k}.png", dpi=90) for k in KINDS]'
	$(BIN)/python -c 'from pathlib import Path; from PIL import Image; \
	  [Image.open(f).convert("L").quantize(64).save(f, optimize=True) for f in Path("nbs/images").glob("phantom-*.png")]'

recording: install ## record the README's moving picture from the real page (a quiet machine, a minute)
	$(BIN)/python docs/moving_picture.py nbs/images/playground.webp

# Executed at full scale where a notebook or the package changed, offline, two notebooks at a time: twenty minutes the first time.
docs: $(VENV)/.docs ## build the site into _docs/html (docs/README.md says how)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python docs/pages.py
	$(BIN)/python docs/recordings.py
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --write-all -d _proc/doctrees -c docs _proc/site _docs/html
	$(BIN)/python docs/check.py _docs/html

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	touch $@

dist: install ## build the source distribution and the wheel into dist/
	rm -rf dist
	$(BIN)/python -m build

tryout: dist ## install the wheel into a fresh environment, and run the quick demo from an empty folder (6 GB, five minutes)
	rm -rf $(OUT)/tryout && mkdir -p $(OUT)/tryout/empty
	$(PYTHON) -m venv $(OUT)/tryout/venv
	$(OUT)/tryout/venv/bin/python -m pip install --quiet dist/*.whl
	cd $(OUT)/tryout/empty && ../venv/bin/ttl-nb demo --quick --no-open
	rm -rf $(OUT)/tryout

lowest: ## the tests with every requirement at its lower bound, in an environment of their own (6 GB in OUT)
	mkdir -p $(OUT)
	$(PYTHON) tests/lowest.py dev > $(OUT)/lowest.txt
	PIP_CONSTRAINT=$(CURDIR)/$(OUT)/lowest.txt $(MAKE) --no-print-directory test VENV=$(OUT)/lowest-venv

clean: ## remove what tests and builds leave behind (not .venv, not OUT)
	rm -rf build dist *.egg-info _proc _docs .pytest_cache .hypothesis
	find nbs ttl_nb tests -name __pycache__ -o -name .ipynb_checkpoints | xargs -r rm -rf
