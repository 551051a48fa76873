"""`r1exp new KIND NAME`: writes a small working option into the current folder: code, YAML and a test.

./NAME.py                     the code; an experiment has none
./conf/<group>/NAME.yaml      the option GROUP=NAME, found with --config-dir conf
./test_NAME.py                tests of the code
"""

import importlib.util
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from keyword import iskeyword
from pathlib import Path

from r1exp.config.compose import groups, session
from r1exp.errors import ExitCode, Refused
from r1exp.files import write_text
from r1exp.settings import nearest
from r1exp.terminal import show

_TEMPLATES = Path(__file__).parent / "templates"
_CONF = "conf"  # folder of the user's options
_HYDRA_VALUES = ("null", "true", "false", "inf", "nan")  # names that Hydra reads as values, in any case


@dataclass(frozen=True)
class _Kind:
    """What can be written."""

    group: str  # of the option
    suffix: str  # appended to the class where its name is used otherwise in the file
    is_constant: bool = False  # the code defines an object, whose name is in capitals
    commands: tuple[str, ...] = ()  # what to type next, after `r1exp`


_KINDS = {
    "reward": _Kind(
        "rewards",
        "Reward",
        commands=("check --config-dir conf rewards=NAME", "--config-dir conf rewards=NAME debug=fast"),
    ),
    "dataset": _Kind(
        "dataset",
        "Dataset",
        commands=("plan --config-dir conf dataset=NAME", "--config-dir conf dataset=NAME debug=fast"),
    ),
    "prompt": _Kind(
        "prompt",
        "_STYLE",
        is_constant=True,
        commands=("check --config-dir conf prompt=NAME", "--config-dir conf prompt=NAME debug=fast"),
    ),
    "algorithm": _Kind(
        "algorithm",
        "Algorithm",
        commands=("plan --config-dir conf algorithm=NAME", "--config-dir conf algorithm=NAME debug=fast"),
    ),
    "experiment": _Kind(
        "experiment",
        "",
        commands=(
            "plan --config-dir conf experiment=NAME",
            "plan -m --config-dir conf experiment=NAME seed=1,2,3",
            "--config-dir conf experiment=NAME debug=fast",
        ),
    ),
}


def main(arguments: Sequence[str]) -> ExitCode:
    """Write the files of one option into the current folder, and show what to type next.

    Raises:
        Refused: another kind, a name that cannot be used, or a file that exists. Nothing is written then.
    """
    if len(arguments) != 2:
        raise Refused(f"`r1exp new` takes a kind and a name: r1exp new {'|'.join(_KINDS)} NAME")
    kind, name = arguments
    if kind not in _KINDS:
        close = nearest(kind, _KINDS)
        hint = f" Did you mean `r1exp new {close[0]} {name}`?" if close else ""
        raise Refused(f"`r1exp new` writes a {', '.join(_KINDS)}, and found {kind!r}.{hint}")
    _refuse_name(name, kind)
    files = _files(kind, name)
    existing = [path for path in files if path.exists()]
    if existing:
        raise Refused(
            f"{existing[0]} exists, and is not overwritten; choose another name, or remove the file"
        )
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
    except OSError as error:
        raise Refused(f"{error.filename} cannot be written ({error.strerror})") from error
    show("".join(f"wrote {path}\n" for path in files) + "\nNext, type:\n", end="")
    show("".join(f"  {line}\n" for line in _next(kind, name)), end="")
    return ExitCode.DONE


def _refuse_name(name: str, kind: str) -> None:
    """Refuse a name that Python, Hydra or another option would not let be used."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or iskeyword(name):
        raise Refused(
            f"{name!r} cannot be the name of a Python module; use letters, digits and _, and start with a letter"
        )
    if name.lower() in _HYDRA_VALUES:
        raise Refused(f"{name!r} is read as a value on the command line, not as a name; choose another name")
    group = _KINDS[kind].group
    with session():
        options = groups()[group]
    if name in options:
        raise Refused(
            f"{group}={name} exists already, in r1exp or in an installed package; choose another name"
        )
    if kind != "experiment" and not Path(f"{name}.py").exists() and _is_importable(name):
        raise Refused(
            f"there is a Python module {name!r} already, which ./{name}.py would hide; choose another name"
        )


def _is_importable(name: str) -> bool:
    return name in sys.builtin_module_names or importlib.util.find_spec(name) is not None


def _files(kind: str, name: str) -> dict[Path, str]:
    """Return what is written: path below the current folder -> text."""
    places = {
        "module": Path(f"{name}.py"),
        "option": Path(_CONF) / _KINDS[kind].group / f"{name}.yaml",
        "test": Path(f"test_{name}.py"),
    }
    found = {part: _TEMPLATES / kind / f"{part}.txt" for part in places}
    texts = {part: path.read_text(encoding="utf-8") for part, path in found.items() if path.exists()}
    class_name = _class_name(_KINDS[kind], name, "".join(texts.values()))
    values = {"NAME": name, "CLASS": class_name}
    return {
        places[part]: re.sub(r"NAME|\bCLASS\b", lambda found: values[found[0]], text)
        for part, text in texts.items()
    }


def _class_name(kind: _Kind, name: str, used_in: str) -> str:
    """Return the name of the class or object, different from every other name in the files."""
    if kind.is_constant:
        found = name.upper()
    else:
        found = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    is_used = iskeyword(found) or re.search(rf"\b{found}\b", used_in) is not None
    return f"{found}{kind.suffix}" if is_used else found


def _next(kind: str, name: str) -> list[str]:
    """Return the lines to type next."""
    python = "python" if _is_on_path("python") else shlex.quote(sys.executable)
    program = "r1exp" if _is_on_path("r1exp") else f"{python} -m r1exp"
    lines = [f"{program} {command}".replace("NAME", name) for command in _KINDS[kind].commands]
    install = [] if importlib.util.find_spec("pytest") else [f"{python} -m pip install pytest"]
    return [*lines, *install, f"{python} -m pytest test_{name}.py"]


def _is_on_path(program: str) -> bool:
    """Whether typing `program` starts the one of this Python environment."""
    found = shutil.which(program)
    return found is not None and Path(found).parent.absolute() == Path(sys.executable).parent
