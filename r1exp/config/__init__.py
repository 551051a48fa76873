"""How a command line becomes one checked, frozen `Experiment`."""
