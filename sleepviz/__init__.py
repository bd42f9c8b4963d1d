"""Sleepviz: see a language model get heavy with context and sleep it off.

Knows the version and the root of the error tree; it does not know models, pages or files.
"""

import os

# Read by OpenMP when torch is first imported. With threads that spin while they wait, a second busy
# program on the machine (a browser, say) slows the model down several times.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"


class SleepvizError(Exception):
    """Something that a person can act on: what is wrong, and what to do about it.

    `what` names the thing, what was got and what was expected; `hint` says what to do next.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what} {hint}".strip())
        self.what = what
        self.hint = hint
