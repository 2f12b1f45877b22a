"""The bench's arithmetic: rows, costs, and what other people's clients print. No speed is tested here."""

import pytest

from loadtest.bench.cost import combined, line, median_of, per_grab, table
from loadtest.bench.hops import Reading, hop_of, spent_between
from loadtest.bench.load import parse_wrk
from loadtest.bench.peers.lua_http import peer_requests
from loadtest.bench.peers.redis_direct import parse_redis_benchmark
from loadtest.bench.result import bounded, compare, rounded, stated, target_words
from loadtest.bench.run import arguments_of


def test_a_row_compares_the_medians_of_the_rounds() -> None:
    row = compare("x", [10.0, 30.0, 20.0], [5.0, 4.0, 100.0], "grabs/s", at_least=4)
    assert (row.ours, row.peer, row.ratio, row.met) == (20.0, 5.0, 4.0, True)
    assert "by round 2.00 7.50 0.20" in row.note


def test_a_row_just_below_its_target_has_not_met_it() -> None:
    assert not compare("x", [3.999], [1.0], "grabs/s", at_least=4).met


def test_where_smaller_is_better_the_target_bounds_from_above() -> None:
    slow = compare("p50", [1.3], [1.0], "ms", at_most=1.25)
    quick = compare("p50", [1.2], [1.0], "ms", at_most=1.25)
    assert (slow.met, quick.met) == (False, True)
    assert slow.at_most
    assert target_words(slow) == "<= 1.25"


def test_a_row_without_a_target_is_met_and_shows_none() -> None:
    row = compare("x", [1.0], [100.0], "grabs/s")
    assert row.met
    assert target_words(row) == ""
    assert stated("x", 5.0, "grabs/s").met


def test_a_size_is_held_against_its_bound() -> None:
    assert bounded("a packet", 1_536, 1_536, "bytes").met
    assert not bounded("a packet", 1_537, 1_536, "bytes").met


def test_small_figures_keep_their_decimals() -> None:
    assert (rounded(0.987), rounded(12_345.6)) == (0.99, 12_346.0)


def test_a_lagless_peer_does_not_divide_by_zero() -> None:
    assert compare("x", [1.0], [0.0], "ms").ratio == float("inf")


WRK = """Running 3s test @ http://127.0.0.1:8000
  1 threads and 128 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    21.43ms    3.02ms  61.00ms   80.12%
  17890 requests in 3.01s, 3.02MB read
RESULT 3010000 17890 12 0 21050 33400
"""


def test_the_output_of_wrk_is_read() -> None:
    seen = parse_wrk(WRK, 0.4)
    assert (seen.seconds, seen.answers, seen.refused) == (3.01, 17_890, 12)
    assert (seen.p50_ms, seen.p99_ms, seen.client_cpu_s) == (21.05, 33.4, 0.4)
    assert round(seen.per_second) == 5_944


def test_broken_connections_fail_the_run() -> None:
    with pytest.raises(OSError, match="3 connections broke"):
        parse_wrk("RESULT 3010000 17890 0 3 21050 33400\n", 0.0)


def test_a_wrk_that_did_not_run_fails_with_its_own_words() -> None:
    with pytest.raises(OSError, match="unable to connect"):
        parse_wrk("unable to connect to 127.0.0.1:1 Connection refused\n", 0.0)


def test_the_output_of_redis_benchmark_is_read() -> None:
    output = '"test","rps","avg_latency_ms","min_latency_ms"\n"EVALSHA abc","131926.12","5.9","0.8"\n'
    assert parse_redis_benchmark(output) == 131_926.12


def test_a_redis_benchmark_without_a_result_is_an_error() -> None:
    with pytest.raises(ValueError, match="no result"):
        parse_redis_benchmark("ERR unknown command\n")


def test_every_share_of_a_peer_is_asked_for_once_by_a_user_of_its_own() -> None:
    requests = peer_requests([f"p{number}" for number in range(25)], 4)
    assert len(set(requests)) == len(requests) == 100
    assert [b"p%d/" % number in requests[number] for number in range(10)] == [True] * 10


def test_a_process_born_during_the_load_counts_whole() -> None:
    before = Reading(0.0, {"gateway": {(1, 0.0): 5.0}, "settlement": {}})
    after = Reading(1.0, {"gateway": {(1, 0.0): 7.0}, "settlement": {(2, 0.5): 0.25}})
    assert spent_between(before, after) == {"gateway": 2.0, "settlement": 0.25}


@pytest.mark.parametrize(
    ("name", "command", "hop"),
    [
        ("haproxy", "haproxy -f haproxy.cfg", "haproxy"),
        ("valkey-server", "valkey-server --port 0", "store"),
        ("ray::ServeReplic", "ray::ServeReplica:hongbao:gateway", "gateway"),
        ("ray::ServeReplic", "ray::ServeReplica:raw-no-op:raw-no-op", "ray"),
        ("ray::settle_hos", "ray::settle_hosts", "settlement"),
        ("raylet", "raylet --store", "ray"),
    ],
)
def test_a_process_is_known_by_its_title(name: str, command: str, hop: str) -> None:
    assert hop_of(name, command) == hop


def test_costs_are_microseconds_a_grab_and_cores_follow_from_the_rate() -> None:
    us = per_grab({"haproxy": 0.5, "gateway": 1.5}, 1.0, 1_000_000)
    assert us == {"haproxy": 0.5, "gateway": 1.5, "client": 1.0}
    found = line("batch", us)
    assert found.total_us == 2.0
    assert found.cores == {409_000: 0.8, 760_000: 1.5}


def test_the_client_is_no_part_of_the_platform() -> None:
    assert line("single", {"gateway": 100.0, "client": 900.0}).total_us == 100.0


def test_refused_attempts_are_paid_for_by_the_success_they_belong_to() -> None:
    attempts = combined([(1.0, {"gateway": 100.0}), (2.7, {"gateway": 50.0})])
    assert attempts["gateway"] == pytest.approx(235.0)


def test_the_table_has_a_line_for_each_door_that_was_measured() -> None:
    measured = {"single": [{"gateway": 1.0}, {"gateway": 3.0}, {"gateway": 2.0}], "no-op": [{"gateway": 9.0}]}
    assert [(found.name, found.total_us) for found in table(measured)] == [("single", 2.0)]
    assert median_of(measured["single"]) == {"gateway": 2.0}
    both = table(measured | {"loser": [{"gateway": 1.0}], "send": [{"gateway": 2.6}]})
    assert [found.total_us for found in both] == [2.0, 4.7, 1.0]


def test_groups_are_chosen_by_a_word_and_keep_their_order() -> None:
    assert arguments_of(["--only", "shard", "--only", "http"]).names == ["http", "shard"]
    assert len(arguments_of([]).names) > 5


def test_a_word_that_names_no_group_is_refused() -> None:
    with pytest.raises(SystemExit):
        arguments_of(["--only", "nothing"])
