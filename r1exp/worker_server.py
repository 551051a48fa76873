"""Entry point of the fork server: `python -m r1exp.worker_server LISTENER SOCKET OWNER STARTED [--deepspeed]`.

It imports what the steps of a run need and then forks their ranks (`r1exp.launcher.fork_server`). Nothing of the user is
imported here: a forked rank imports reward files, data sets and plugins itself, as a fresh one does.
"""

import gc
import random
import socket
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from r1exp.files import provide_cache
from r1exp.launcher.fork_server import Request, ending_with, leave, serve
from r1exp.launcher.forked_ranks import fork_ranks
from r1exp.registry import load
from r1exp.stage.menu import STAGES

AGENT, WORKER = "r1exp.launcher.agent", "r1exp.worker"
_MODULES = (  # besides the work of the stages
    "accelerate.commands.launch",
    "r1exp.launcher.agent",
    "r1exp.rollout.hf",
    "r1exp.stage.run_stage",
    "torch.distributed.run",
    "transformers.models.llama.modeling_llama",  # of the tiny model
)


def main(listener: socket.socket, path: Path, owner: tuple[int, int], uses_deepspeed: bool) -> NoReturn:
    """Serve until the owner has ended; a forked rank runs its step and ends with its exit code."""
    gc.disable()  # a fifth of the time of the imports
    provide_cache()
    with ending_with(path, owner):
        preload(uses_deepspeed)  # requests wait for it
    request = serve(listener, path, owner)
    code = 1
    try:
        code = _run(request)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - as the interpreter does with an error that nothing handles
        traceback.print_exc()
    leave(code)


def preload(uses_deepspeed: bool) -> None:
    """Import what steps need, without a thread, a process or a computation."""
    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]  # as `r1exp.worker` does
    from r1exp.stage.unused_libraries import leave_out

    leave_out(uses_vllm=False, uses_deepspeed=uses_deepspeed)
    for name in (*_MODULES, *(["deepspeed"] if uses_deepspeed else [])):
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
    main(accepting, Path(where), (int(started[0]), int(started[1])), "--deepspeed" in sys.argv[5:])
