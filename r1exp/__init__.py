"""r1exp: a Hydra-composed experiment framework for R1-style post-training.

The rooms of this package, in order, are listed in `tests/test_rooms.py`; a room imports only
from the rooms before it.
"""

__version__ = "0.1.0"
