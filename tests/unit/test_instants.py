"""Instants: what a client or an operator names may be of any size, and what is written down of it can be read."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cluster.client import PausedSwitch
from cluster.commands import ledger
from cluster.commands import switches as levers
from cluster.instants import day_of, second_of
from cluster.offline.statement import AccountLine, WholeStatement
from tests.simulation.http import Http
from tests.simulation.loop import simulated
from tests.unit.samples import NOW_MS
from tests.unit.test_http_refusals import assert_problem

EXTREMES = (-(2**63), -1, 0, 1, 2**31, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64, 10**30)
CYCLE_MS = 146_097 * 86_400_000


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_is_written_as_the_library_writes_it_as_far_as_that_reaches(when: datetime) -> None:
    at_ms = (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert second_of(at_ms) == f"{when.year:04}" + when.strftime("-%m-%d %H:%M:%S")
    assert day_of(at_ms) == second_of(at_ms)[:10]


@given(st.integers(-(2**70), 2**70))
def test_every_instant_can_be_written_and_four_hundred_years_later_it_is_the_same_day(at_ms: int) -> None:
    year, rest = second_of(at_ms).rsplit("-", 2)[0], second_of(at_ms).rsplit("-", 2)[1:]
    later = second_of(at_ms + CYCLE_MS)
    assert (later.rsplit("-", 2)[0], later.rsplit("-", 2)[1:]) == (f"{int(year) + 400:04}", rest)


def test_the_day_of_a_stamp_is_that_of_utc() -> None:
    assert day_of(NOW_MS) == "2015-12-31", "16:05 in Greenwich, five past midnight in China"


@pytest.mark.parametrize("at_ms", EXTREMES)
def test_a_statement_and_a_lever_of_any_instant_can_be_shown(at_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(ledger, "out", Console(file=screen, width=200))
    line = AccountLine(at_ms, "sandbox", 5, 5, "")
    ledger._show_statement(WholeStatement("wechat", "li", ["wallet-000"], 5, 0, [line]))
    assert second_of(at_ms) in screen.getvalue()
    assert second_of(at_ms) in levers.sentence([PausedSwitch("sends", None, at_ms, "li", [])])


@pytest.mark.parametrize("advance_ms", EXTREMES)
@simulated
async def test_the_clock_is_moved_by_ten_years_in_all_and_no_further(advance_ms: int) -> None:
    http = await Http.start(limits={"sandbox_clock_ms_max": 1_000})
    ask: dict[str, Any] = {"method": "POST", "path": "/sandbox/clock", "scope": "operator"}
    assert (await http.ask(**ask, json={"advance_ms": 999})).json() == {"offset_ms": 999}
    moved = await http.ask(**ask, json={"advance_ms": advance_ms})
    if advance_ms in (0, 1):
        assert moved.json() == {"offset_ms": 999 + advance_ms}
    else:
        assert_problem(moved, 422, "invalid")
        assert "advance_ms" in moved.text
        assert (await http.ask(**ask, json={"advance_ms": 1})).json() == {"offset_ms": 1_000}


STAR = {"kind": "star", "total_fen": 1_000, "count": 5}
RAIN = {"kind": "lucky", "greeting": "", "bursts": [{"opens_at_ms": 0, "ends_at_ms": 1, "total_fen": 100, "count": 2}]}


@pytest.mark.parametrize("number", EXTREMES)
@simulated
async def test_no_instant_cursor_or_number_that_a_client_names_is_more_than_it_can_be_told(number: int) -> None:
    http = await Http.start()
    packet_id = (await http.send())["packet_id"]
    rain: dict[str, Any] = RAIN
    burst = rain["bursts"][0]
    asked = [
        await http.ask("POST", "/v1/packets", key="a", json=STAR | {"opens_at_ms": number}),
        await http.ask("POST", "/v1/packets", key="b", json=STAR | {"day_count_max": number}),
        *[
            await http.ask("POST", "/v1/rains", key=f"c{name}", json=RAIN | {"bursts": [burst | {name: number}]})
            for name in burst
        ],
        await http.ask("POST", "/v1/commitments", json={"idempotency_key": "d", "star_count": number}),
        await http.ask("POST", "/v1/commitments", json={"idempotency_key": "e", "bursts": number}),
        await http.ask("POST", "/v1/lishi/x/accept", key="f", json={"amount_fen": number}),
        await http.ask(
            "POST", "/sandbox/users", scope="operator", json={"user": "z", "tenant": "t", "balance_fen": number}
        ),
        *[
            await http.ask("GET", path.format(number))
            for path in (
                f"/v1/packets/{packet_id}/proof?after_rank={{}}",
                f"/v1/packets/{packet_id}/proof?lane={{}}",
                "/v1/wallet/statement?cursor={}",
                "/v1/wallet/statement?limit={}",
            )
        ],
    ]
    assert [(answer.request.url, answer.text) for answer in asked if answer.status_code >= 500] == []
