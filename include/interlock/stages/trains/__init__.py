"""Release trains: boarding, a frozen manifest, one decision, departure in the order of what depends on what, arrival.

What a train leaves is in its own chain of the ledger. Its passengers' releases are runs of their own Dags; a train only
asks for them, under the account of its conductor, and waits.
"""

from __future__ import annotations

from .arrival import arrival_group, close_train, record_arrival
from .board import LONGEST_VOTE, AwaitTrainBoard, board_group, prepare_ballots
from .boarding import boarding_group, freeze_manifest, open_train, train_params
from .common import PassengerLost
from .departure import SendPassenger, depart, departure_group

__all__ = [
    "LONGEST_VOTE",
    "AwaitTrainBoard",
    "PassengerLost",
    "SendPassenger",
    "arrival_group",
    "board_group",
    "boarding_group",
    "close_train",
    "depart",
    "departure_group",
    "freeze_manifest",
    "open_train",
    "prepare_ballots",
    "record_arrival",
    "train_params",
]
