"""What is seen inside a model on request.

Knows attention and caches as arrays; does not know how they are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sleepviz.events.talking import Token


@dataclass(frozen=True, slots=True)
class AttentionCaptured:
    """The attention weights of one head over what is in the context.

    `weights` [query, key] float32, rows sum to 1 together with `slot_share`; entries above the
    diagonal are 0 and mean "absent". `slot_share` [query] is the share that went to the slots of
    dynamic weights.
    """

    layer: int
    head: int
    tokens: tuple[Token, ...]
    weights: np.ndarray
    slot_share: np.ndarray
    ms: float
