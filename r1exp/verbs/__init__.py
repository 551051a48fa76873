"""The verbs of the command line: one file for each, with a function `main(arguments) -> ExitCode`."""
