# The few commands that people type. `make reproduce PARAMS=params/cxr_sample.yaml` runs another profile.
PARAMS ?= params/phantoms.yaml
CORES ?= $(shell nproc 2>/dev/null || echo 2)
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
export PYTHONWARNINGS ?= ignore::DeprecationWarning:papermill
SHELL := /bin/bash

.PHONY: reproduce test test-notebooks lab record notebooks exercises site report slides study data clean

# GPUS=2 keeps to two of the machine's GPUs.
RUN = @python -m manet_lib.workflow.reproduce "$(PARAMS)" --cores $(CORES) $(if $(GPUS),--gpus $(GPUS))

reproduce: .venv/installed
	$(RUN)

data: .venv/installed
	$(RUN) --data

# Lint, types and the fast tests. `make test MARK=` runs the slow ones as well; some of them look at the default run,
# so call `make reproduce` first. The tests share two cores: one thread for each worker.
MARK ?= not slow
WORKERS ?= 2
test: .venv/installed-test
	ruff check .
	ruff format --check .
	mypy
	OMP_NUM_THREADS=1 pytest tests -m "$(MARK)" -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=20

# Executes notebooks on a copy of the finished default run, and checks what their cells assert and tagged outputs.
NOTEBOOKS ?= $(wildcard notebooks/*.ipynb)
test-notebooks: .venv/installed-test
	rm -rf .cache/nbval && mkdir -p .cache/nbval && cp -a runs figures .cache/nbval/
	MANET_OUTPUT="$(CURDIR)/.cache/nbval" pytest --nbval-lax --timeout=900 -n $(WORKERS) --dist loadfile $(NOTEBOOKS)

# Opens a working copy, so that whatever is saved there changes nothing that is executed headlessly.
# A copy that is there stays; remove my_notebooks/ for fresh ones.
lab: .venv/installed
	@if [ "$$(id -u)" = 0 ] && [ -z "$(findstring --allow-root,$(LAB))" ]; then echo \
		"make lab: you are root, and so would be whoever opens the page; call make lab LAB=--allow-root" >&2; exit 1; fi
	mkdir -p my_notebooks && cp -rn notebooks/. my_notebooks/
	jupyter lab --notebook-dir="$(CURDIR)" $(LAB) my_notebooks/00_overview.ipynb

# Trains what a study of params/studies/ lacks, records each training run and prints the comparison:
# `make study NAME=confounders`, or a part of it: `PAIRS=3 CONDITIONS='"strength 0" "strength 1"'`. A call that was
# ended goes on where it was.
study: .venv/installed
	python -m manet_lib.studies.run "$(NAME)" $(if $(JOBS),--jobs $(JOBS)) $(if $(PAIRS),--pairs $(PAIRS)) \
		$(if $(CONDITIONS),--conditions $(CONDITIONS))

# Keeps tables, figures and numbers of a finished run in figures/recorded/, for others to compare with.
record: .venv/installed
	python -m manet_lib.report.recorded "$(PARAMS)"

# Executes the notebooks in place on the finished default run, so that the committed outputs are its.
notebooks: .venv/installed-test
	jupyter nbconvert --to notebook --execute --inplace notebooks/*.ipynb
	ruff format notebooks

# Notebooks, findings, guides and the library's pages as a site in site/, to be read from the disk.
site: .venv/installed-site
	python docs/build.py

# The replication report as a PDF, report.pdf (needs Pango, which most systems have).
report: .venv/installed-site
	python docs/report_pdf.py

# The lecture of notebook 00 as slides in slides/, from the committed notebooks (needs npm for reveal.js and MathJax).
slides: .venv/installed
	python docs/slides.py

.venv/installed-%: .venv/installed
	.venv/bin/python -m pip install --quiet -c constraints.txt -e '.[$*]'
	touch $@

# Writes notebooks/exercises/ from notebooks/solutions/, after these have been executed.
exercises: .venv/installed-test
	jupyter nbconvert --to notebook --execute --inplace \
		--ExecutePreprocessor.record_timing=False notebooks/solutions/*.ipynb
	ruff format notebooks/solutions
	python -m manet_lib.teaching.exercises

.venv/installed: pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet -c constraints.txt -e .
	touch $@

clean:
	rm -rf runs/phantoms figures/phantoms .snakemake .cache
