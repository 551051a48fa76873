"""Test that the table of docs/models.md is what its script writes."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "docs" / "model_table.py"


def test_the_table_of_what_fits_is_current() -> None:
    spec = importlib.util.spec_from_file_location("model_table", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.PAGE.read_text(encoding="utf-8")
    assert page == module.page_with(module.table()), "type: python docs/model_table.py --write"
