"""Runs the verbs of the command line: one file each, with a function `main(arguments) -> ExitCode`."""
