"""Entry point of the fork server: `python -m r1exp.worker_server LISTENER SOCKET OWNER STARTED [--deepspeed]`.

It imports what the steps of a run need and then forks their ranks (`r1exp.launcher.fork_server`). Nothing of the user is
imported here: a forked rank imports reward files, data sets and plugins itself, as a fresh one does.
"""

import random
import socket
import sys
from importlib import import_module
from pathlib import Path

from r1exp.files import provide_cache
from r1exp.launcher.fork_server import Request, serve
from r1exp.launcher.forked_ranks import fork_ranks
from r1exp.registry import load
from r1exp.stage.menu import STAGES

AGENT, WORKER = "r1exp.launcher.agent", "r1exp.worker"
# What the steps of the tiny model import besides the work of their stages.
_LIBRARIES = (
    "accelerate.commands.launch",
    "torch.distributed.run",
    "transformers.models.qwen2.modeling_qwen2",
)


def main(listener: socket.socket, path: Path, owner: tuple[int, int], uses_deepspeed: bool) -> int:
    """Serve until the owner has ended; in a forked rank run its step, and return its exit code."""
    provide_cache()
    preload(uses_deepspeed)  # requests wait for it
    return _run(serve(listener, path, owner))


def preload(uses_deepspeed: bool) -> None:
    """Import what steps need, without a thread, a process or a computation."""
    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]  # as `r1exp.worker` does
    from r1exp.stage.unused_libraries import leave_out

    leave_out(uses_vllm=False, uses_deepspeed=uses_deepspeed)
    for name in (*_LIBRARIES, *(["deepspeed"] if uses_deepspeed else [])):
        import_module(name)
    import_module(WORKER)
    for stage in STAGES.own.values():
        load(load(stage).work)


def _run(request: Request) -> int:
    """Run a request in the forked process."""
    module, *arguments = request.arguments
    if module == AGENT:
        module, *arguments = fork_ranks(arguments)
    assert module == WORKER, module
    _forget()
    sys.argv = [module, *arguments]
    return import_module(WORKER).main(Path(arguments[0]))


def _forget() -> None:
    """Draw new random states where a fresh process has its own."""
    import numpy as np

    random.seed()
    np.random.seed()


if __name__ == "__main__":
    number, where, *started = sys.argv[1:5]
    accepting = socket.socket(fileno=int(number))
    sys.exit(main(accepting, Path(where), (int(started[0]), int(started[1])), "--deepspeed" in sys.argv[5:]))
