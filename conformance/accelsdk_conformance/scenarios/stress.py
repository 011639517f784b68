"""Several threads, each with several streams and a random program of its own, all at once.

Each thread knows what its buffers must hold, whatever the others do meanwhile; what all of them
read, nobody writes. The final state is the same on every run, and so is its digest.
"""

from __future__ import annotations

import numpy as np

from accelsdk.formats import UINT8
from accelsdk.graph.types import TensorType
from accelsdk.runtime.buffer import Buffer
from accelsdk.runtime.executable import ExecuteOptions, LoadedExecutable
from accelsdk.runtime.sync import Event
from accelsdk_conformance.scenarios.lab import Lab, equal, together

_KIND = TensorType(UINT8, (16, 16))
_SIZE, _BUFFERS = _KIND.nbytes, 4


class _Player:
    """One thread's part: buffers, streams, and the images that they must be equal to."""

    def __init__(self, lab: Lab, number: int, program: LoadedExecutable, common: Buffer) -> None:
        self.lab, self.number, self.program, self.common = lab, number, program, common
        self.common_image = lab.bytes_of(common)
        self.rng = np.random.default_rng([lab.seed, number])
        self.streams = [
            lab.device.create_stream() for _ in range(int(lab.parameters.get("streams", 3)))
        ]
        self.images = [bytearray(self.rng.bytes(_SIZE)) for _ in range(_BUFFERS)]
        self.buffers = [lab.device.empty(_KIND) for _ in range(_BUFFERS)]
        for buffer, image in zip(self.buffers, self.images, strict=True):
            buffer.copy_from_host(bytes(image), stream=self.streams[0])
        # Whatever used a buffer last: the next use, on another stream, waits for it.
        self.used: list[list[Event]] = [[] for _ in range(_BUFFERS)]
        self.reads: list[tuple[bytearray, bytes, Event]] = []

    def play(self) -> None:
        """Runs the program, then compares all that was read, and the end."""
        for turn in range(int(self.lab.parameters.get("steps", 40))):
            self.step(turn)
        for out, wanted, event in self.reads:
            self.lab.finish(event)
            equal(bytes(out), wanted, f"what thread {self.number} read")
        for index, (buffer, image) in enumerate(zip(self.buffers, self.images, strict=True)):
            out = bytearray(_SIZE)
            stream = self.streams[0]
            self.lab.finish(stream.read(buffer, out, wait=self.used[index]))
            equal(bytes(out), bytes(image), f"buffer {index} of thread {self.number}")

    def step(self, turn: int) -> None:
        """Does one random thing."""
        stream = self.streams[int(self.rng.integers(len(self.streams)))]
        target, source = (int(n) for n in self.rng.permutation(_BUFFERS)[:2])
        first = int(self.rng.integers(_SIZE - 1))
        end = int(self.rng.integers(first + 1, _SIZE + 1))
        wait = [*self.used[target], *self.used[source]]
        image, other = self.images[target], self.images[source]
        match int(self.rng.integers(6)):
            case 0:
                data = self.rng.bytes(end - first)
                event = stream.write(self.buffers[target], data, offset=first, wait=wait)
                image[first:end] = data
            case 1:
                value = bytes([turn % 256])
                event = stream.fill(
                    self.buffers[target], value, offset=first, nbytes=end - first, wait=wait
                )
                image[first:end] = value * (end - first)
            case 2:
                event = stream.copy(self.buffers[target], self.buffers[source], wait=wait)
                image[:] = other
            case 3:
                event = stream.copy(self.buffers[target], self.common, wait=wait)
                image[:] = self.common_image
            case 4:
                options = ExecuteOptions(stream=stream, wait=wait)
                operands, results = [self.buffers[source]], [self.buffers[target]]
                event = self.program.execute(operands, results, options).complete
                image[:] = np.frombuffer(bytes(other), np.uint8).reshape(16, 16).T.tobytes()
            case _:
                out = bytearray(end - first)
                event = stream.read(self.buffers[target], out, offset=first, wait=wait)
                self.reads.append((out, bytes(image[first:end]), event))
        self.used[target] = [event]
        self.used[source] = [*self.used[source][-3:], event]


def threads(lab: Lab) -> None:
    """Threads that run random programs at once end with the bytes that each of them expects.

    Parameters of the case: ``threads``, ``streams`` of each, ``steps`` of each.
    """
    common = lab.device.put(lab.rng.integers(0, 256, (16, 16), dtype=np.uint8))
    with lab.build([_KIND], lambda make, x: make.op("Transpose", x, perm=(1, 0))) as program:
        players = [
            _Player(lab, number, program, common)
            for number in range(int(lab.parameters.get("threads", 4)))
        ]
        together([player.play for player in players], 6 * lab.patience)
        for player in players:
            for image in player.images:
                lab.note(bytes(image))
