import time
from tests.proc.test_streams import *
def test_it(stage):
    anchor = stage.server(link={"rate_mbps": 20, "delay_ms": 10})
    conn = stage.dial()
    conn.sendall(request_line("first", 20_000))
    read_exactly(conn, 20_000)
    helper = stage.server(link={"rate_mbps": 20, "delay_ms": 10})
    t=time.monotonic()
    r = Reading(conn, content("second", 3*MB))
    conn.sendall(request_line("second", 3 * MB))
    while r.size < 3*MB:
        s=stats_of(conn)
        print(f"{time.monotonic()-t:.2f}", s.delivered_bytes, s.produced_bytes, [(x.server_id,x.delivered_bytes,x.state) for x in s.shares], [(p.server_id,p.state,p.outstanding_bytes,p.received_bytes, p.rate_bytes_s) for p in conn.paths()], s.regrants)
        time.sleep(0.1)
    assert 0
