"""What is watched while a step trains, and what is done about it."""
