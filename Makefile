# One word each; .ci/run is what CI runs.
.PHONY: test slow lint types docs site bench mutation ci
test:
	pytest
slow:
	pytest -m 'slow and not cuda and not exhaustive'
lint:
	ruff format --check . && ruff check .
types:
	mypy
docs:
	python docs/site/losses_page.py docs/losses.md && python docs/site/full_spaces.py && python docs/site/schemas.py docs/schemas && python docs/site/stub.py sweeper/__init__.pyi && python docs/site/remarks.py docs/report.md && python docs/site/overview.py
site:
	mkdocs build --strict
bench:
	python bench/overhead.py --trials 50 && python bench/start.py --repetitions 4
mutation:
	mutmut run && mutmut results
ci:
	bash .ci/run
