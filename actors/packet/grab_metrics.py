"""Grab metrics: how the grabs of one call were answered. Read from the answers; a uniform group counts as one."""

from collections import Counter
from typing import Any

from actors.kernel.messages import Refused
from actors.kernel.metrics import ACCEPTED, REPLAYED, Tally
from actors.packet.commands import Grab, GrabMany
from actors.packet.replies import Shares, Takings


def count_grabs(tally: Tally, groups: list[tuple[str, list[Any]]], replies: list[list[Any]]) -> None:
    """Count every grab by its outcome, and the call by how many grabs it carried."""
    outcomes: Counter[str] = Counter()
    for (_, commands), answers in zip(groups, replies, strict=True):
        for command, answer in zip(commands, answers, strict=True):
            if type(command) is Grab:
                outcomes[outcome_of(answer)] += 1
            elif type(command) is GrabMany:
                if type(answer) is Takings:
                    outcomes.update(map(outcome_of, answer.replies))
                else:
                    outcomes[ACCEPTED if type(answer) is Shares else outcome_of(answer)] += len(command.users)
    if outcomes:
        tally.size("batch_size", outcomes.total())
        for outcome, count in outcomes.items():
            tally.add("grabs", outcome, count)


def outcome_of(answer: Any) -> str:
    """Name the outcome of one grab."""
    if type(answer) is Refused:
        return answer.code
    return REPLAYED if answer.replayed else ACCEPTED
