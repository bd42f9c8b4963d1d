"""Sleepviz: see a language model get heavy with context and sleep it off.

Knows the version and the root of the error tree; it does not know models, pages or files.
"""

import os

# Read by OpenMP when torch is first imported: how long a thread spins while it waits for work.
# GNU's as long as most gaps between two operators are (docs/experiments.md). Intel's and LLVM's not
# at all: they would for 200 ms, and a second busy program (a browser, say) would be waited for.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    os.environ.setdefault("KMP_BLOCKTIME", "0")

__version__ = "0.1.0"


class SleepvizError(Exception):
    """Something that a person can act on: what is wrong, and what to do about it.

    `what` names the thing, what was got and what was expected; `hint` says what to do next.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what} {hint}".strip())
        self.what = what
        self.hint = hint
