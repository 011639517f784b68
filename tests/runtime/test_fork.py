"""A forked child never hangs: inherited devices refuse work, new clients work."""

import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
import faulthandler, os, threading
import numpy as np
import accelsdk
from accelsdk.formats import FLOAT32
from accelsdk.graph.rewrite import Builder

builder = Builder()
a, b = (builder.input(name, FLOAT32, (4,)) for name in "ab")
graph = builder.graph([a, b], [builder.op("Add", a, b)], "sum")
ones = np.ones(4, np.float32)

def run(client):
    device = client.device(0)
    with client.load(client.compile(graph), device) as loaded:
        called = threading.Event()
        result = loaded.execute([device.put(ones), device.put(ones)])
        result.complete.add_done_callback(lambda event: called.set())
        assert result.outputs[0].numpy().tolist() == [2, 2, 2, 2]
        assert called.wait(10)

client = accelsdk.connect({plugin!r})
run(client)  # starts every thread that there is
device = client.device(0)
kept, gate = device.put(ones), device.create_semaphore()
waiting = kept.copy_to(device.put(ones), wait=[gate.at(1)], block=False)
child = os.fork()
if child == 0:
    faulthandler.dump_traceback_later(20, exit=True)
    for use in (kept.numpy, lambda: device.put(ones), waiting.wait, device.reset):
        try:
            use()
        except accelsdk.FailedPrecondition as error:
            assert "forked" in str(error), error
        else:
            raise AssertionError(use)
    with accelsdk.connect({plugin!r}) as mine:
        run(mine)
    client.close()
    print("child done", flush=True)
else:
    assert os.waitpid(child, 0)[1] == 0
    gate.signal(1)
    waiting.wait(10)
    run(client)
    assert kept.numpy().tolist() == [1, 1, 1, 1]
    print("parent done")
"""


@pytest.mark.parametrize("plugin", ["reference_cpu", "sim_card"])
def test_a_forked_child_works_and_leaves_the_parent_alone(plugin):
    script = textwrap.dedent(SCRIPT).format(plugin=plugin)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "child done\nparent done\n"
