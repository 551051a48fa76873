"""Runs the server of the step in a folder until the process is killed: `python run_served.py FOLDER`."""

import sys
import time
from pathlib import Path

from r1exp.errors import StepFailed
from r1exp.serving.session import serving
from r1exp.stage.step import read_step

folder = Path(sys.argv[1])
try:
    with serving(read_step(folder), folder) as server:
        assert server is not None
        (folder / "ready").write_text(server.url)
        while True:
            server.watch()
            time.sleep(0.05)
except StepFailed as error:
    (folder / "failed").write_text(str(error))
    sys.exit(3)
