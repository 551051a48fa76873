"""Splits the GPUs of a machine between the ranks of a step and its vLLM server."""

from collections.abc import Sequence

from r1exp.errors import Refused


def split_devices(
    visible: Sequence[str], num_ranks: int, num_server: int, trains: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the devices of the ranks and those of the server on one machine.

    Ranks that train get devices of their own. Ranks that only send requests compute nothing, so that they share the
    devices of the server.

    Raises:
        Refused: the machine has too few devices.
    """
    if len(visible) < num_server + (num_ranks if trains else 0):
        ranks = (
            f" and launcher.num_processes={num_ranks} ranks train on devices of their own" if trains else ""
        )
        raise Refused(
            f"rollout.num_devices={num_server} for the server{ranks}, and this machine shows {len(visible)} "
            "CUDA device(s); lower one of them, or use rollout=vllm_colocate, which shares the devices of the ranks"
        )
    if not trains:
        return tuple(visible[:num_ranks]), tuple(visible[-num_server:])
    return tuple(visible[:num_ranks]), tuple(visible[num_ranks : num_ranks + num_server])
