"""`r1exp new KIND NAME`: writes a reward, dataset, prompt, algorithm or experiment of the user's own.

Files, in the current folder:

    NAME.py                 the class, or the prompt style; none for an experiment
    conf/<group>/NAME.yaml  the option, for `--config-dir conf`
    test_NAME.py            its tests
"""

import keyword
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import yaml

from r1exp.config.compose import groups, session
from r1exp.errors import ExitCode, Refused
from r1exp.files import write_text
from r1exp.settings import nearest
from r1exp.terminal import show
from r1exp.verbs.templates import KINDS, Kind

_CONF = Path("conf")
_NUMBERS = ("inf", "nan")  # identifiers that Hydra reads as numbers


def main(arguments: Sequence[str]) -> ExitCode:
    """Write the files and print the commands to type next.

    Raises:
        Refused: not a kind and a name, a name that cannot be used, or a file that exists already.
    """
    kind_name = arguments[0] if arguments else "nothing"
    if kind_name not in KINDS:
        close = nearest(kind_name, KINDS)
        hint = f" Did you mean `r1exp new {' '.join([close[0], *arguments[1:]])}`?" if close else ""
        raise Refused(f"`r1exp new` takes a KIND and a NAME, and found {kind_name}.{hint} {_usage()}")
    if len(arguments) != 2:
        raise Refused(f"`r1exp new {kind_name}` takes one NAME, and found {len(arguments) - 1}. {_usage()}")
    kind, name = KINDS[kind_name], arguments[1]
    _check_text(kind_name, name)
    texts = _texts(kind, name)
    _check_free(kind_name, name, list(texts))
    for path, text in texts.items():
        write_text(path, text)
    option = f"--config-dir {_CONF} {kind.group}={name}"
    lines = [f"wrote {path}" for path in texts]
    lines += ["next, type:", *(f"  r1exp {verb} {option}" for verb in kind.commands)]
    lines += [f"  python -m pytest test_{name}.py"]
    show("\n".join(lines))
    return ExitCode.DONE


def _texts(kind: Kind, name: str) -> dict[Path, str]:
    """Return the text of every file, by its path in the current folder."""
    values = {"name": name, "class_name": _class_name(name, kind.suffix)}
    templates = {
        Path(f"{name}.py"): kind.module,
        _CONF / kind.group / f"{name}.yaml": kind.yaml,
        Path(f"test_{name}.py"): kind.test,
    }
    return {path: text.substitute(values) for path, text in templates.items() if text is not None}


def _class_name(name: str, suffix: str) -> str:
    """Return `BrevityReward` for `brevity`, and `MyReward` for `my_reward`."""
    capitalized = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    # The suffix alone is the name of the base class.
    return capitalized if capitalized.endswith(suffix) and capitalized != suffix else capitalized + suffix


def _check_text(kind_name: str, name: str) -> None:
    """Refuse a name that Python cannot import, or that YAML and Hydra read as another value than text."""
    is_identifier = name.isascii() and name.isidentifier() and not name.startswith("_")
    if (
        not is_identifier
        or keyword.iskeyword(name)
        or yaml.safe_load(name) != name
        or name.lower() in _NUMBERS
    ):
        raise Refused(
            f"NAME {name!r} cannot be used; it must be a Python identifier of letters, digits and underscores that "
            f"begins with a letter, and no keyword of Python or YAML. Type e.g. r1exp new {kind_name} my_{kind_name}"
        )


def _check_free(kind_name: str, name: str, paths: Sequence[Path]) -> None:
    """Refuse a name whose files, option or Python module exist already."""
    another = f"choose another name, e.g. r1exp new {kind_name} {name}_2"
    existing = [path for path in paths if path.exists()]
    if existing:
        raise Refused(f"{existing[0]} exists already, and r1exp new overwrites no file; {another}")
    group = KINDS[kind_name].group
    with session():
        taken = name in groups()[group]
    if taken:
        raise Refused(f"{group}={name} exists already, as an option of r1exp or of a plug-in; {another}")
    if KINDS[kind_name].module is not None and find_spec(name) is not None:
        raise Refused(f"a Python module named {name} exists already, which {name}.py would hide; {another}")


def _usage() -> str:
    return f"Kinds: {', '.join(KINDS)}. Type e.g. r1exp new reward my_reward"
