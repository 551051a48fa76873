"""A disk of its own for the places of a lane: a tmpfs that can be filled, and folders that become read-only.

Needs root and a private mount namespace. A folder becomes read-only by a read-only bind mount above it: what is open for
writing stays so, as on a network file system that is exported anew, and whatever is opened by its path is refused.
"""

import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_SIZE = "600m"
_BALLAST = "ballast"


class Disk:
    """A tmpfs at `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "soak", folder], check=True)

    def fill(self) -> Callable[[], None]:
        """Use all room; return the function that frees it."""
        ballast = self.folder / _BALLAST
        with suppress(OSError), ballast.open("wb", buffering=0) as file:  # others write and delete meanwhile
            while file.write(bytes(2**16)):
                pass
        return lambda: ballast.unlink(missing_ok=True)

    def make_read_only(self, folder: Path) -> Callable[[], None]:
        """Refuse what is opened for writing below `folder`; return the function that ends it."""
        subprocess.run(["mount", "-o", "bind,ro", folder, folder], check=True)

        def undo() -> None:
            subprocess.run(["umount", "--lazy", folder], check=True)

        return undo

    def end(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", "--lazy", self.folder], check=True)

    @staticmethod
    def stores(place: Path) -> list[Path]:
        """Return the step stores of a place."""
        found = [place / "store", *place.glob("*/.store"), *place.glob("runs/.store")]
        return sorted({path for path in found if path.is_dir()})

    @staticmethod
    def runs(place: Path) -> list[Path]:
        """Return the run and sweep folders of a place."""
        found = [*place.glob("run"), *place.glob("run-*"), *place.glob("sweep")]
        return sorted(path for path in found if path.is_dir())
