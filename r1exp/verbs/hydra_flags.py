"""Answers the options of Hydra that show something and run nothing: --cfg, --info, --hydra-help and -sc.

They mean what they mean in every application of Hydra. The configuration they show is the run's; that of one step of a
pipeline is shown by `--package step.NAME`.
"""

import argparse
import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from r1exp.config.compose import compose, parsed, search_path_of, session
from r1exp.config.experiment import experiment_from
from r1exp.errors import ExitCode, Refused
from r1exp.settings import nearest
from r1exp.terminal import say, show
from r1exp.verbs.options import parse_options

_CFG = ("job", "hydra", "all")
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
_STEP = "step."


def main(arguments: Sequence[str]) -> ExitCode:
    """Show what the options ask for.

    Raises:
        Refused: a value that an option does not have, or a package that does not exist.
    """
    flags, rest = _parser().parse_known_args(list(arguments))
    if flags.shell_completion:
        from r1exp.verbs.completion import shell_completion

        return shell_completion(rest)
    for name, value, known in (("--cfg", flags.cfg, _CFG), ("--info", flags.info, _INFO)):
        if value is not None and value not in known:
            close = nearest(value, known)
            hint = f" Did you mean {name} {close[0]}?" if close else ""
            raise Refused(f"{name} {value}: {name} takes one of {', '.join(known)}.{hint}")
    if flags.hydra_help:
        show(_hydra_help(), end="")
        return ExitCode.DONE
    options = parse_options(rest)
    folders, overrides = search_path_of(options.overrides)
    with session(options.config_dirs, folders):
        if flags.info is not None:
            _show_info(flags.info, overrides, options.is_multirun)
            return ExitCode.DONE
        return _show_config(flags, overrides)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--cfg", "-c", nargs="?", const="all")
    parser.add_argument("--package", "-p")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--info", "-i", nargs="?", const="all")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    return parser


def _show_config(flags: argparse.Namespace, overrides: Sequence[str]) -> ExitCode:
    """Show the composed configuration; a configuration that would be refused is shown all the same, with the reason."""
    package = flags.package
    if package is not None and package.startswith(_STEP):
        config, package = _of_step(package.removeprefix(_STEP), overrides)
    else:
        whole = compose(parsed(overrides)).hydra
        assert whole is not None
        config = whole.copy()
    OmegaConf.set_readonly(config, False)
    OmegaConf.set_struct(config, False)
    if flags.cfg == "job":
        config.pop("hydra", None)
    elif flags.cfg == "hydra":
        config = OmegaConf.masked_copy(config, ["hydra"]) if not flags.resolve else config
    shown: Any = config
    if package and package != "_global_":
        shown = OmegaConf.select(config, package)
        if shown is None:
            raise Refused(
                f"--package {package}: the configuration has no such key; it has {', '.join(map(str, config))}"
            )
        show(f"# @package {package}")
    try:
        if isinstance(shown, Container):
            if flags.resolve:
                # Not `OmegaConf.resolve`, which cannot write a list that a resolver returns (`${oc.select:...,[]}`).
                shown = OmegaConf.create(OmegaConf.to_container(shown, resolve=True))
            if flags.cfg == "hydra" and not package:
                shown = OmegaConf.masked_copy(config, ["hydra"])
            show(OmegaConf.to_yaml(shown), end="")
        else:
            show(str(shown))
    except OmegaConfBaseException as error:
        raise Refused(f"--resolve: {str(error).splitlines()[0]}") from error
    return _judged(overrides)


def _of_step(text: str, overrides: Sequence[str]) -> tuple[DictConfig, str]:
    """Return the configuration of a step, and the key within it."""
    name, _, rest = text.partition(".")
    experiment = experiment_from(overrides)
    for step in experiment.steps:
        if step.name == name:
            return step.composition.config.copy(), rest
    names = ", ".join(f"step.{step.name}" for step in experiment.steps)
    raise Refused(f"--package step.{name}: there is no such step; there are {names}")


def _judged(overrides: Sequence[str]) -> ExitCode:
    """Return REFUSED, with the reason, if a run of this configuration would be refused."""
    try:
        experiment_from([override.text for override in parsed(overrides) if not override.is_sweep])
    except Refused as error:
        say(f"r1exp: a run of this configuration would be refused: {error}")
        return error.exit_code
    return ExitCode.DONE


def _show_info(topic: str, overrides: Sequence[str], is_multirun: bool) -> None:
    """Let Hydra print its own view: plugins, search path, defaults tree and list, configuration."""
    chosen = [override for override in parsed(overrides) if is_multirun or not override.is_sweep]
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    mode = RunMode.MULTIRUN if is_multirun else RunMode.RUN
    compose(chosen)  # a refusal of r1exp's instead of a traceback of Hydra's
    output = io.StringIO()  # printed whole: Hydra prints through loggers, which cannot end at a closed pipe
    with redirect_stdout(output):
        hydra.show_info(
            topic,
            config_name="config",
            overrides=[override.for_hydra() for override in chosen],
            run_mode=mode,
        )
    show(output.getvalue(), end="")


def _hydra_help() -> str:
    sweepers = ", ".join(sorted(sweeper.__name__ for sweeper in Plugins.instance().discover(Sweeper)))
    return f"""\
r1exp is an application of Hydra: https://hydra.cc/docs/1.3/. Its options, and what r1exp does with them:

  -m, --multirun                   run every combination of the listed values
  -cd, --config-dir DIR            add a folder with config groups of your own
  -c, --cfg job|hydra|all          show the composed configuration of the run, and run nothing
  -p, --package KEY                with --cfg: show a part of it; step.NAME shows that of one step of the pipeline
  --resolve                        with --cfg: show values instead of interpolations
  -i, --info [TOPIC]               show {", ".join(_INFO)}
  -sc, --shell-completion          install=SHELL, uninstall=SHELL; SHELL is bash, zsh or fish
  hydra.searchpath=[file://DIR]    add a folder, as --config-dir does; also pkg://PACKAGE
  hydra.verbose=true|NAME|[NAMES]  show debug messages of the loggers of this process
  hydra.sweep.dir=DIR              folder of a multirun
  hydra/sweeper=NAME               basic runs every combination; installed: {sweepers}

Not options of r1exp: --run, --config-path, --config-name (type experiment=NAME), hydra/launcher (type sweep.parallel=N
or launcher=slurm). Overrides are those of Hydra: https://hydra.cc/docs/1.3/advanced/override_grammar/basic/.
"""
