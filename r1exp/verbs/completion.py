"""Completes command lines in a shell: verbs, options, config groups and their options, keys and their values.

The shell calls `r1exp -sc query=SHELL` with the line up to the cursor in COMP_LINE. `eval "$(r1exp -sc install=bash)"`
installs it, as in every application of Hydra.
"""

import os
import shlex
from collections.abc import Iterable, Sequence

from r1exp.config.compose import compose, groups, parsed, search_path_of, session
from r1exp.config.describe import ANY, allowed, every_key
from r1exp.config.overrides import flat
from r1exp.errors import ExitCode, R1ExpError, Refused
from r1exp.terminal import show
from r1exp.verbs.menu import VERBS
from r1exp.verbs.options import Options, parse_options

_BASH = """\
_r1exp_completion() {
    local IFS=$'\\n'
    COMPREPLY=($(COMP_LINE="${COMP_LINE:0:$COMP_POINT}" "${COMP_WORDS[0]}" -sc query=bash 2>/dev/null))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//[=:]}
complete -o nospace -o default -F _r1exp_completion r1exp
"""
_ZSH = """\
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
_r1exp_completion() {
    local -a found
    found=("${(@f)$(COMP_LINE="${BUFFER[1,CURSOR]}" "${words[1]}" -sc query=zsh 2>/dev/null)}")
    [[ -n "$found" ]] && compadd -Q -S '' -- "${found[@]}" || _files
}
compdef _r1exp_completion r1exp
"""
_FISH = """\
function __r1exp_completion
    set -lx COMP_LINE (commandline -cp)
    set -l parts (commandline -cpo)
    $parts[1] -sc query=fish 2>/dev/null
end
complete -c r1exp -f -a '(__r1exp_completion)'
"""
_SCRIPTS = {  # shell: (script that installs, script that removes)
    "bash": (_BASH, "complete -r r1exp\nunset -f _r1exp_completion\n"),
    "zsh": (_ZSH, "compdef -d r1exp\nunfunction _r1exp_completion\n"),
    "fish": (_FISH, "complete -e -c r1exp\nfunctions -e __r1exp_completion\n"),
}
_OPTIONS = ("--multirun", "--config-dir", "--from", "--until", "--only", "--cfg", "--package", "--resolve", "--info", "--help", "--hydra-help",
            "--version")  # fmt: skip
_VALUES = {  # option of the command line: what may follow it
    "--cfg": ("job", "hydra", "all"),
    "-c": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "-i": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
_WORDS = {  # verb: what its first word may be
    "sweep": ("status", "retry", "report"),
    "new": ("reward", "dataset", "prompt", "algorithm", "experiment"),
}
_SIGNS = "+~"


def shell_completion(arguments: Sequence[str]) -> ExitCode:
    """Answer `install=SHELL`, `uninstall=SHELL` or `query=SHELL`.

    Raises:
        Refused: another request, or another shell.
    """
    action, _, shell = (arguments[0] if len(arguments) == 1 else "").partition("=")
    if action not in ("install", "uninstall", "query") or shell not in _SCRIPTS:
        raise Refused(
            f"-sc takes install=SHELL or uninstall=SHELL with one of {', '.join(_SCRIPTS)}; type e.g. "
            'eval "$(r1exp -sc install=bash)"'
        )
    if action == "query":
        show("\n".join(candidates(os.environ.get("COMP_LINE", ""))))
    else:
        show(_SCRIPTS[shell][action == "uninstall"], end="")
    return ExitCode.DONE


def candidates(line: str) -> list[str]:
    """Return the words that may stand where the line ends, sorted.

    Args:
        line: The command line up to the cursor, with the name of the program.
    """
    try:
        words = shlex.split(line)[1:]
    except ValueError:  # an open quotation mark
        words = line.split()[1:]
    word = "" if not line or line[-1].isspace() or not words else words.pop()
    verb = words[0] if words and words[0] in VERBS else "run"
    if words and words[-1] in _VALUES:
        return _matching(_VALUES[words[-1]], word)
    if verb in _WORDS:
        return _matching(_WORDS[verb], word) if len(words) == 1 else []
    if verb in ("doctor", "report", "watch"):  # folders, which the shell completes
        return []
    if word.startswith("-"):
        return _matching((*_OPTIONS, "--plan") if verb == "fork" else _OPTIONS, word)
    if verb == "fork" and len(words) == 1:  # RUN@STEP, of which the shell completes the folder
        return []
    found = list(VERBS) if not words else []
    typed = words[1:] if words and words[0] in VERBS else words
    return sorted({*_matching(found, word), *_overrides(word, typed, is_help=verb == "help")})


def _matching(words: Iterable[str], start: str) -> list[str]:
    return sorted(word for word in words if word.startswith(start))


def _overrides(word: str, typed: Sequence[str], *, is_help: bool) -> list[str]:
    """Return the overrides, or the keys for `r1exp help`, that begin with `word`."""
    options = _options(typed)
    with session(options.config_dirs, search_path_of(options.overrides)[0]):
        sign = word[: len(word) - len(word.lstrip(_SIGNS))]
        key, has_value, value = word.removeprefix(sign).partition("=")
        if has_value:
            *before, last = value.split(",")  # a list of values, for a sweep
            start = "".join(f"{earlier}," for earlier in before)
            return [f"{sign}{key}={start}{option}" for option in _matching(_values(key), last)]
        end = "" if is_help or sign == "~" else "="
        found = {f"{group}{end}" for group in groups()}
        for known in _keys(options):
            head, dot, _ = known[len(key) :].partition(".")
            if known.startswith(key):
                found.add(f"{key}{head}." if dot else f"{known}{end}")
        return [f"{sign}{text}" for text in _matching(found, key)]


def _options(typed: Sequence[str]) -> Options:
    """Return the options of the words before the cursor; what cannot be read is left out."""
    try:
        return parse_options(typed, takes_range=True)
    except R1ExpError:
        return Options()


def _keys(options: Options) -> set[str]:
    """Return the keys of the composed configuration, and those of the schema that have no name of the user's in them."""
    declared = {key for key in every_key() if ANY not in key}
    leaves = {key for key in declared if not any(other.startswith(f"{key}.") for other in declared)}
    try:
        chosen = [text for text in search_path_of(options.overrides)[1] if "=" in text]
        return leaves | set(flat(compose(parsed(chosen)).values))
    except R1ExpError:
        return leaves


def _values(key: str) -> list[str]:
    """Return the options of a group, or the values of a key that has a few."""
    if key in groups():
        return groups()[key]
    text = allowed(key)
    if text == "true or false":
        return ["true", "false"]
    words = [word for part in text.split(" or ") for word in part.split(", ")]
    return words if all(" " not in word for word in words) and len(words) > 1 else []
