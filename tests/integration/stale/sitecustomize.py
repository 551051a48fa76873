"""On the path of a run, this keeps every new weight from its vLLM engine, and nothing else is changed."""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder


class Deafen(MetaPathFinder):
    """Lets `trl.generation.vllm_generation` load, and then takes the pushing of weights out."""

    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]
        if name != "trl.generation.vllm_generation":
            return None
        spec = PathFinder.find_spec(name, path)
        theirs: Loader = spec.loader
        load = theirs.exec_module

        def exec_module(module):  # type: ignore[no-untyped-def]
            load(module)
            module.VLLMGeneration.sync_weights = lambda self: None

        theirs.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Deafen())
