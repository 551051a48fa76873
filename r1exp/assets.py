"""Paths of conf/, launchers/ and sweeps/: inside an installed wheel, or next to the package in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "_assets"

ROOT: Path = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent
CONF: Path = ROOT / "conf"
LAUNCHERS: Path = ROOT / "launchers"
SWEEPS: Path = ROOT / "sweeps"
