"""Forward selection: in which order a head's slots explain what it reads.

Knows matrices; does not know caches or budgets. Orthogonal least squares: Chen, Billings and Luo,
1989, https://doi.org/10.1080/00207178908953472.
"""

from __future__ import annotations

import numpy as np

N_LATEST = 1  # slots at the end that always stay, as does the first
EXHAUSTED = 1e-5  # of a slot's own size: what is left is rounding, the chosen ones have the rest
ROWS_A_STEP = 80  # of a head's width, that a step reads or writes: fitted


def ordered(
    gram: np.ndarray, cross: np.ndarray, floor: float = -1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The order in which each head takes its slots, and what each adds, both [head, step].

    gram [head, slot, slot] and cross [head, slot, head_dim], float64. Gains never rise along the
    order (a later one that is larger than the one before counts as that one), so that a budget
    takes the beginning of every head's order; those of the slots that must stay are infinite. The
    orders end once every head's gain is below `floor`. In numpy: thousands of small steps, which
    torch would dispatch one by one.
    """
    n_heads, n = gram.shape[:2]
    heads = np.arange(n_heads)
    forced = list(dict.fromkeys([0, *range(n - N_LATEST, n)]))
    basis = np.empty_like(gram)  # [head, step, slot]: the chosen slots' columns, made orthogonal
    shares = np.empty_like(cross)  # [head, step, head_dim]: of the output, what each one took away
    weights = np.empty((n_heads, 2, n))  # of the columns before, in a new one and in what it meets
    left = np.diagonal(gram, axis1=1, axis2=2).copy()  # of a slot's size, what no chosen one has
    rounding = EXHAUSTED * left
    squared = np.square(cross).sum(-1)  # of what each slot has of the error that is left
    free = np.ones((n_heads, n), dtype=bool)
    order = np.zeros((n_heads, n), dtype=np.int64)
    gains = np.full((n_heads, n), np.inf)
    for step in range(n):
        adds = left > rounding
        if step < len(forced):
            picked = np.full(n_heads, forced[step])
        else:
            gain = np.divide(squared, left, out=np.zeros_like(left), where=adds)
            gain[~free] = -1.0
            picked = gain.argmax(-1)
            gains[:, step] = np.minimum(gain[heads, picked], gains[:, step - 1])
            if (gains[:, step] < floor).all():
                return order[:, :step], gains[:, :step]
        order[:, step], free[heads, picked] = picked, False
        size = np.sqrt(np.where(adds, left, np.inf)[heads, picked])[:, None]
        columns, taken, by = basis[:, :step], shares[:, :step], weights[:, :, :step]
        by[:, 0] = columns[heads, :, picked]
        share = (cross[heads, picked] - (by[:, :1] @ taken)[:, 0]) / size
        by[:, 1] = (taken @ share[:, :, None])[:, :, 0]
        known = by @ columns
        column = (gram[heads, picked] - known[:, 0]) / size
        met = (cross @ share[:, :, None])[:, :, 0] - known[:, 1]
        squared += column * (column * np.square(share).sum(-1, keepdims=True) - 2.0 * met)
        left -= np.square(column)
        basis[:, step], shares[:, step] = column, share
    return order, gains


def swept(n: int, steps: float) -> float:
    """ESTIMATE of the bytes that so many steps go through in a head of `n` slots.

    Every step reads the columns that were chosen before it.
    """
    return 8.0 * n * steps * (steps / 2 + ROWS_A_STEP)
