"""Two cards and a semaphore: the second card starts when the first says so.

    python examples/two_cards.py

Work on each card is submitted at once, in any order. The semaphore is the only edge between
them: card 1 waits for a point in time that card 0 has not reached, nor even promised.
"""

from __future__ import annotations

import numpy as np

import accelsdk
from accelsdk.formats import FLOAT32
from accelsdk.graph.rewrite import Builder


def scaled_sum(factor: float) -> accelsdk.Graph:
    """Returns the graph y = (a + b) * factor on vectors of four."""
    builder = Builder()
    a, b = (builder.input(name, FLOAT32, (4,)) for name in "ab")
    total = builder.op("Add", a, b)
    scaled = builder.op("Mul", total, builder.scalar(factor, FLOAT32))
    return builder.graph([a, b], [scaled], "scaled_sum")


def main() -> None:
    """Runs a pipeline of two stages on two cards and prints what came out."""
    with accelsdk.connect("sim_card") as client:
        first, second = client.device(0), client.device(1)
        program = client.compile(scaled_sum(2.0))
        on_first, on_second = client.load(program, first), client.load(program, second)
        ready = accelsdk.Semaphore()
        stream = second.create_stream()

        # Card 1: submitted first, runs last.
        middle = first.empty(FLOAT32, (4,))
        here, ones = second.empty(FLOAT32, (4,)), second.put(np.ones(4, np.float32))
        stream.copy(here, middle, wait=[ready.at(1)])
        result = stream.execute(on_second, [here, ones])

        # Card 0: makes what card 1 waits for.
        x = first.put(np.arange(4, dtype=np.float32))
        options = accelsdk.ExecuteOptions(signal=[ready.at(1)])
        on_first.execute([x, x], [middle], options)

        print(result.outputs[0].numpy())  # ((x + x) * 2 + 1) * 2


if __name__ == "__main__":
    main()
