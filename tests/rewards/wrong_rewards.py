"""Ways in which a user's reward is wrong: the source of a module, and what `r1exp check` must say about it.

Each module defines `score`, unless that is what is wrong. LATER are too slow for the fast tests.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wrong:
    """One faulty module."""

    source: str
    says: str  # part of the first line that `check` prints; MODULE stands for the module's name
    factory: bool = False
    arguments: str = "{}"
    deadline: float = 5.0  # seconds; the default of r1exp


HEAD = "def score(completions, **kwargs):\n    "
WRONG = {
    "raises": Wrong(
        HEAD + "raise KeyError('gold_answer')", "KeyError: 'gold_answer' (FOLDER/MODULE.py, line 2)"
    ),
    "takes completions for texts": Wrong(
        HEAD + "return [float(text.strip() == '5') for text in completions]",
        "AttributeError: 'list' object has no attribute 'strip' (FOLDER/MODULE.py, line 2)",
    ),
    "raises on texts without the tag": Wrong(
        "import re\n"
        + HEAD
        + "return [float(len(re.search('<answer>(.*)</answer>', c[0]['content']).group(1))) for c in completions]",
        "AttributeError: 'NoneType' object has no attribute 'group' (FOLDER/MODULE.py, line 3), on the completion 'empty'",
    ),
    "reads a column that is not there": Wrong(
        HEAD + "return [float(text) for text in kwargs['solutions']]",
        "the columns of the data are id, question, answer, solution",
    ),
    "has a parameter that is no column": Wrong(
        "def score(completions, ground_truth, **kwargs):\n    return [1.0] * len(completions)",
        "missing a required argument: 'ground_truth'",
    ),
    "returns too few": Wrong(
        HEAD + "return [1.0] * (len(completions) - 1)", "returned 1 values for 2 completions"
    ),
    "returns too many": Wrong(
        HEAD + "return [1.0] * (len(completions) + 1)", "returned 3 values for 2 completions"
    ),
    "returns None": Wrong(HEAD + "[1.0 for _ in completions]", "returned None; it must return a list of 2"),
    "returns None for each": Wrong(
        HEAD + "return [None] * len(completions)", "(function gave no value 14x), gold answers included"
    ),
    "returns NaN": Wrong(HEAD + "return [float('nan')] * len(completions)", "returned nan for a completion"),
    "returns infinity": Wrong(
        HEAD + "return [float('inf')] * len(completions)", "returned inf for a completion"
    ),
    "returns one number": Wrong(HEAD + "return 1.0", "returned a float; it must return a list"),
    "returns texts": Wrong(HEAD + "return ['1.0'] * len(completions)", "returned '1.0', a str, for a completion"),
    "returns one text": Wrong(HEAD + "return '11'", "returned a str; it must return a list"),
    "returns a dictionary": Wrong(
        HEAD + "return dict(enumerate(completions))", "returned a dict; it must return a list"
    ),
    "returns a generator": Wrong(HEAD + "return (1.0 for _ in completions)", "returned a generator"),
    "is a generator": Wrong(HEAD + "yield 1.0", "returned a generator"),
    "returns nested lists": Wrong(
        HEAD + "return [[1.0] for _ in completions]", "returned [1.0], a list, for a completion"
    ),
    "takes no **kwargs": Wrong(
        "def score(completions):\n    return [1.0] * len(completions)",
        "cannot be called: got an unexpected keyword argument 'prompts'",
    ),
    "exits": Wrong("import sys\n" + HEAD + "sys.exit(3)", "SystemExit: 3 (FOLDER/MODULE.py, line 3)"),
    "ends its process": Wrong("import os\n" + HEAD + "os._exit(3)", "ended its process with exit status 3"),
    "crashes": Wrong(
        "import os, signal\n" + HEAD + "os.kill(os.getpid(), signal.SIGSEGV)",
        "ended its process with SIGSEGV",
    ),
    "is not there": Wrong("def points(completions, **kwargs): ...", "the module 'MODULE' has no 'score'"),
    "raises when it is imported": Wrong(
        "limit = 1 / 0\n" + HEAD + "return [1.0]", "ZeroDivisionError: division by zero (FOLDER/MODULE.py, line 1)"
    ),
    "imports what is not installed": Wrong(
        "import no_such_package\n" + HEAD + "return [1.0]", "No module named 'no_such_package'"
    ),
    "is a class": Wrong("class score:\n    pass", "is a class, and not one of r1exp.rewards.base"),
    "is a number": Wrong("score = 1.0", "is a float, which cannot be called"),
    "makes a function": Wrong(
        "def score(**kwargs):\n    return lambda completions, **columns: [1.0]",
        "set factory=true",
    ),
    "makes no function": Wrong("def score():\n    return 1.0", "makes a float, which cannot be called", factory=True),
    "does not take the arguments of its maker": Wrong(
        "def score(limit):\n    return lambda completions, **columns: [1.0]",
        "unexpected keyword argument 'limt'",
        factory=True,
        arguments="{limt: 3}",
    ),
    "swallows a misspelt argument": Wrong(
        "def score(completions, limit=3, **kwargs):\n    return [1.0] * len(completions)",
        "has no parameter 'limt'; did you mean arguments.limit?",
        arguments="{limt: 3}",
    ),
    "reads the keyboard": Wrong(
        HEAD + "return [float(input('score? ')) for _ in completions]", "EOFError: EOF when reading a line"
    ),
    "needs too much memory": Wrong(
        HEAD + "return [float(len(bytearray(1 << 50)))] * len(completions)", "MemoryError (FOLDER/MODULE.py, line 2)"
    ),
}  # fmt: skip
LATER = {
    "is not Python": Wrong("def score(completions\n", "is not valid Python"),
    "hangs": Wrong(HEAD + "while True: pass", "did not return within its deadline"),
    "hangs in C code": Wrong(
        "import re\n" + HEAD + "re.match('(a+)+$', 'a' * 64 + 'b')", "did not return within", deadline=1.0
    ),
}
RIGHT = {  # id: the body of a function that is odd and not wrong
    "bool": "return [True] * len(completions)",
    "int": "return [1 for _ in completions]",
    "tuple": "return (1.0,) * len(completions)",
    "numpy array": "import numpy\n    return numpy.ones(len(completions), dtype='float32')",
    "numpy numbers": "import numpy\n    return [numpy.float16(1), *[numpy.bool_(True)] * (len(completions) - 1)]",
    "fractions": "from fractions import Fraction\n    return [Fraction(1)] * len(completions)",
    "changes its arguments": "n = len(completions)\n    completions.clear(); kwargs.clear()\n    return [1.0] * n",
    "a copy of the process": (
        "import os\n    if os.fork() == 0: return [2.0]\n    os.wait()\n    return [1.0] * len(completions)"
    ),
    "a thread": (
        "import threading\n    t = threading.Thread(target=print)\n    t.start(); t.join()\n"
        "    return [1.0] * len(completions)"
    ),
}
