"""What a measurement reads of /metrics."""

import httpx

from deployer.bench.scrape import spent_at_rest

ENGINE = """
# TYPE deployer_engine_steps counter
deployer_engine_steps_total 7.0
# TYPE deployer_engine_step_seconds counter
deployer_engine_step_seconds_total 0.5
# TYPE deployer_engine_wait_seconds counter
deployer_engine_wait_seconds_total 0.25
# TYPE deployer_engine_gap_seconds counter
deployer_engine_gap_seconds_total 0.125
# TYPE deployer_proposed_tokens counter
deployer_proposed_tokens_total 0.0
# TYPE deployer_accepted_tokens counter
deployer_accepted_tokens_total 0.0
# TYPE deployer_sequences_running gauge
deployer_sequences_running 0.0
# TYPE deployer_sequences_waiting gauge
deployer_sequences_waiting 0.0
# TYPE process_cpu_seconds counter
"""


async def cpu_s(figures: str) -> float:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=ENGINE.lstrip() + figures)

    async with httpx.AsyncClient(base_url="http://test", transport=httpx.MockTransport(answer)) as client:
        spent = await spent_at_rest(client)
    assert spent is not None and spent.steps == 7
    return spent.server_cpu_s


async def test_the_time_of_all_processes_of_a_server_counts() -> None:
    assert await cpu_s("process_cpu_seconds_total 1.5\n") == 1.5
    several = ["parent", "0", "1"]
    lines = (f'process_cpu_seconds_total{{process="{name}"}} 2.0\n' for name in several)
    assert await cpu_s("".join(lines)) == 6.0
