"""docs/capture_screens.py copies the screen of a terminal at the moments that a recording names."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "capture_screens.py"
PROGRAM = """\
import time
try:
    print("\\033[31mready\\033[0m", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("capture_screens", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "capture_screens", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_screens_are_copied_when_a_text_appears_and_at_the_end(capture: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    moments = (capture.Moment("busy", when="ready", keys=capture.CTRL_C), capture.Moment("end"))
    recording = capture.Recording("python program.py", moments, limit=60.0)
    busy, end = (picture for _, picture in capture.record(recording, tmp_path))
    assert busy.plain == "$ python program.py\nready\n"
    assert end.plain.splitlines()[-1].endswith("stopped")
    assert any("red" in str(span.style) for span in busy.spans)


def test_a_moment_that_does_not_come_is_an_error(capture: ModuleType, tmp_path: Path) -> None:
    recording = capture.Recording("python -c 0", (capture.Moment("never", when="never"),))
    with pytest.raises(SystemExit, match="ended before"):
        list(capture.record(recording, tmp_path))
