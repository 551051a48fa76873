"""`r1exp clean [DIR] [store=DIR] [--free]`: shows what no run needs of the step store, or frees it."""

from collections.abc import Sequence
from pathlib import Path

from r1exp.errors import ExitCode, Refused
from r1exp.runner.clean import clean
from r1exp.terminal import show

_RUNS = Path("runs")
_FREE = "--free"
_STORE = "store="


def main(arguments: Sequence[str]) -> ExitCode:
    """Show, or free.

    Raises:
        Refused: an option or a word that this verb does not have.
    """
    folders = [text for text in arguments if "=" not in text and not text.startswith("-")]
    stores = [text.removeprefix(_STORE) for text in arguments if text.startswith(_STORE)]
    others = [
        text for text in arguments if text != _FREE and text not in folders and not text.startswith(_STORE)
    ]
    if others or len(folders) > 1 or len(stores) > 1:
        found = others[0] if others else " ".join(arguments)
        raise Refused(
            f"{found}: `r1exp clean` takes the folder of all runs (default: runs), store=DIR (default: DIR/.store) and --free"
        )
    runs = Path(folders[0]) if folders else _RUNS
    show(clean(runs, Path(stores[0]) if stores else None, frees=_FREE in arguments), end="")
    return ExitCode.DONE
