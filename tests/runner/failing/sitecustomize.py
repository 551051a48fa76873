"""Makes rank 1 of a step fail in the way that FAIL_AS names. Python imports this file at its start, from PYTHONPATH."""

import os
import signal
import sys
import time

if os.environ.get("RANK") == "1" and "r1exp.worker" in sys.orig_argv:
    how = os.environ["FAIL_AS"]
    if how == "import":
        sys.modules["peft"] = None  # as if it were not installed on the machine of rank 1
    else:
        from r1exp.health.callback import HealthCallback

        def on_step_end(self, args, state, control, **kwargs):  # rank 0 waits in a collective operation
            if how.startswith("sleep"):
                time.sleep(float(how.removeprefix("sleep")) if state.global_step == 2 else 0.0)
                return
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("broken on purpose")

        HealthCallback.on_step_end = on_step_end
