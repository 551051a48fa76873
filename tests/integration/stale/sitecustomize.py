"""Prevents the weights of a run from being sent to its vLLM engine. Python imports this file at its start."""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder


class StaleWeights(MetaPathFinder):
    """Replaces `sync_weights` of `trl.generation.vllm_generation` when that module is imported."""

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


sys.meta_path.insert(0, StaleWeights())
