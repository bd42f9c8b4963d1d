"""What has been made ready to send, kept until it is made from something else.

Knows that the same objects give the same bytes; does not know what is sent. A page is painted again
at every tick, and most of what is on it has not changed since the last one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Kept(Generic[Made]):
    """The last `most` things made, over all visitors, by what they were made from."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._made: OrderedDict[tuple[int, Hashable], tuple[object, Made]] = OrderedDict()
        self._lock = Lock()

    def of(self, source: object, how: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` made of this very object `source` in the way `how`; made now if it is new."""
        at = (id(source), how)
        with self._lock:
            if at in self._made and self._made[at][0] is source:
                self._made.move_to_end(at)
                return self._made[at][1]
        made = make()
        with self._lock:
            self._made[at] = (source, made)  # holds the source, so that its id stays its own
            while len(self._made) > self.most:
                self._made.popitem(last=False)
        return made
