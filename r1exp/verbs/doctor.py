"""`r1exp doctor`: reports what is installed, and what is missing for which feature."""

from collections.abc import Sequence

from r1exp.doctor import doctor_report
from r1exp.errors import ExitCode, Refused
from r1exp.terminal import show


def main(arguments: Sequence[str]) -> ExitCode:
    """Show the report; return REFUSED for an installation that is known not to work."""
    if arguments:
        raise Refused(f"`r1exp doctor` takes no arguments, but found {arguments[0]}")
    report = doctor_report()
    show(report.text(), end="")
    return ExitCode.DONE if report.is_healthy else ExitCode.REFUSED
