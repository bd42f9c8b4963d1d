"""What can happen to a session, as frozen records of plain values and numpy arrays.

Knows the vocabulary of facts; does not know who caused them, when (the timeline stamps them) or how
they are drawn. Bytes are measured from tensors unless a field says otherwise; times are
milliseconds where a name ends in `_ms`.
"""

from __future__ import annotations

from dataclasses import fields

from sleepviz.events.asking import (
    LEAK_SPAN,
    Answered,
    ArmUnavailable,
    DialRead,
    LeakAudited,
    fingerprint,
)
from sleepviz.events.looking import (
    EVERY,
    LEAST_COMPARED,
    LOOKED_AT,
    MEASURES,
    MOST_COMPARED,
    MOST_SEEN,
    AttentionCaptured,
    AttentionGrown,
    AttentionTimed,
    CacheSeen,
    HeadsFollowed,
    HeadsSeen,
)
from sleepviz.events.sleeping import (
    CacheCleared,
    Dreamed,
    GateReading,
    NightWorn,
    ScopeSwitched,
    SleepCancelled,
    SleepEnded,
    SleepRefused,
    SleepReport,
    SleepStarted,
    SleepStepped,
    WeightsReverted,
    WeightsScaled,
)
from sleepviz.events.talking import (
    MemorySampled,
    Prefilled,
    ReadAgain,
    ScopeWeighed,
    SessionStarted,
    Token,
    TokenGenerated,
    TurnAdded,
    TurnEnded,
)
from sleepviz.events.working import Checked, Failed, JobEnded, JobStarted, Noted, Progressed

__all__ = [
    "EVERY",
    "LEAK_SPAN",
    "LEAST_COMPARED",
    "LOOKED_AT",
    "MEASURES",
    "MOST_COMPARED",
    "MOST_SEEN",
    "Answered",
    "ArmUnavailable",
    "AttentionCaptured",
    "AttentionGrown",
    "AttentionTimed",
    "CacheCleared",
    "CacheSeen",
    "Checked",
    "DialRead",
    "Dreamed",
    "Event",
    "Failed",
    "GateReading",
    "HeadsFollowed",
    "HeadsSeen",
    "JobEnded",
    "JobStarted",
    "LeakAudited",
    "MemorySampled",
    "NightWorn",
    "Noted",
    "Prefilled",
    "Progressed",
    "ReadAgain",
    "ScopeSwitched",
    "ScopeWeighed",
    "SessionStarted",
    "SleepCancelled",
    "SleepEnded",
    "SleepRefused",
    "SleepReport",
    "SleepStarted",
    "SleepStepped",
    "Token",
    "TokenGenerated",
    "TurnAdded",
    "TurnEnded",
    "WeightsReverted",
    "WeightsScaled",
    "fingerprint",
    "plain",
]

Event = (
    SessionStarted
    | TurnAdded
    | Prefilled
    | ReadAgain
    | ScopeWeighed
    | TokenGenerated
    | TurnEnded
    | MemorySampled
    | AttentionCaptured
    | AttentionGrown
    | AttentionTimed
    | CacheSeen
    | HeadsFollowed
    | HeadsSeen
    | Checked
    | SleepStarted
    | Dreamed
    | SleepStepped
    | SleepEnded
    | SleepCancelled
    | SleepRefused
    | CacheCleared
    | LeakAudited
    | Answered
    | ArmUnavailable
    | DialRead
    | WeightsScaled
    | ScopeSwitched
    | NightWorn
    | WeightsReverted
    | Progressed
    | JobStarted
    | JobEnded
    | Noted
    | Failed
)


def plain(event: Event) -> dict[str, object]:
    """The fields of an event by name, for tables and recordings."""
    return {f.name: getattr(event, f.name) for f in fields(event)}
