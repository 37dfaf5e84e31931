"""Drawn scenarios: reproducible, and as tough as they are meant to be."""

from statistics import median

from kwik.sim.draw import draw


def test_the_same_seed_is_the_same_scenario():
    assert all(draw(seed) == draw(seed) for seed in range(40))
    assert draw(1) != draw(2)


def test_the_median_scenario_crosses_its_window_many_times():
    drawn = [draw(seed) for seed in range(300)]
    assert 10 <= median(one.total_bytes / one.window_bytes for one in drawn if one.name != "single") <= 40


def test_the_mix():
    drawn = [draw(seed) for seed in range(600)]
    assert {len(one.servers) for one in drawn} >= set(range(1, 9))
    assert {one.name for one in drawn} == {"any", "race", "single"}
    assert {fault.kind for one in drawn for fault in one.faults} >= {"kill", "restart", "kill-all", "path-break"}
    assert any(not one.replicated and len(one.servers) > 1 for one in drawn)
    assert {plan.twist.kind for one in drawn for plan in one.servers if plan.twist} >= {"one-byte", "shorter"}
    assert {plan.lie for one in drawn for plan in one.servers if plan.lie} >= {"data", "digests"}
    rates = [[plan.down.rate_bytes_s for plan in one.servers] for one in drawn]
    assert 10 <= max(max(row) / min(row) for row in rates) <= 20.001


def test_configurations_are_valid():
    for seed in range(200):
        scenario = draw(seed)
        assert scenario.client_config.block_bytes == scenario.block_bytes
        assert scenario.server_config(0).replicated == scenario.replicated
