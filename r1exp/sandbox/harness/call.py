"""Calls one function of program.py and prints what it returns as JSON. Runs in the sandbox of the submission.

Standard input is {"name": ..., "args": [...]}. Neither an expected value nor a verdict is here: whatever the
program does to this process, it only decides what is compared elsewhere.
"""

import json
import os
import sys
import types
from pathlib import Path
from typing import Any

# What LeetCode and LiveCodeBench import before a program.
_IMPLICIT = """
import bisect, collections, copy, datetime, functools, heapq, itertools, math, operator, random, re, string, sys
from bisect import *
from collections import *
from functools import *
from heapq import *
from itertools import *
from math import *
from typing import *
from builtins import *
"""


def main() -> None:
    request = json.loads(sys.stdin.buffer.read())
    result = os.dup(1)
    os.dup2(2, 1)  # what the program prints is no result
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    program = types.ModuleType("program")
    sys.modules["program"] = program
    exec(_IMPLICIT, program.__dict__)
    source = Path(__file__).with_name("program.py").read_text(encoding="utf-8")
    exec(compile(source, "program.py", "exec"), program.__dict__)
    solution: Any = program.__dict__.get("Solution")
    owner = solution() if hasattr(solution, request["name"]) else program
    value = getattr(owner, request["name"])(*request["args"])
    with os.fdopen(result, "w", encoding="utf-8") as file:
        json.dump(value, file, default=lambda other: other.tolist())  # arrays and numbers of NumPy


main()
