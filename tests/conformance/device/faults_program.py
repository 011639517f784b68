"""Faulty programs: execution, constants, sharing, profiles, threads."""

import threading
import time
from dataclasses import replace

import numpy as np

from accelsdk.backend.info import Threading
from accelsdk.errors import Unimplemented
from tests.conformance.device.card import Card
from tests.conformance.device.faulty import fault


@fault("programs")
class ExecuteIgnoresInputOffset(Card):
    """Operands are read at the start of their allocations."""

    def execute(self, loaded, inputs, outputs):
        return super().execute(loaded, [replace(view, offset=0) for view in inputs], outputs)


@fault("programs")
class ExecuteIgnoresOutputOffset(Card):
    """Results are written at the start of their allocations."""

    def execute(self, loaded, inputs, outputs):
        return super().execute(loaded, inputs, [replace(view, offset=0) for view in outputs])


@fault("programs")
class ExecuteScribbles(Card):
    """The first operand is used as scratch memory."""

    def execute(self, loaded, inputs, outputs):
        shapes = super().execute(loaded, inputs, outputs)
        if inputs and inputs[0].nbytes:
            self.bytes(inputs[0])[-1] ^= 1
        return shapes


@fault("programs")
class ExecuteLacksLastByte(Card):
    """The last byte of a result is not written."""

    def execute(self, loaded, inputs, outputs):
        kept = [self.bytes(view)[-1:].copy() for view in outputs]
        shapes = super().execute(loaded, inputs, outputs)
        for view, byte in zip(outputs, kept, strict=True):
            self.bytes(view)[-1:] = byte
        return shapes


@fault("programs")
class ExecuteWritesBeyond(Card):
    """Results are padded to 64 bytes, over what stands behind."""

    def execute(self, loaded, inputs, outputs):
        shapes = super().execute(loaded, inputs, outputs)
        for view in outputs:
            end = view.offset + view.nbytes
            view.handle[end : -(-end // 64) * 64] = 0
        return shapes


@fault("programs")
class ExecuteRemembers(Card):
    """A program run again gives the result of its first run."""

    def execute(self, loaded, inputs, outputs):
        if not hasattr(self, "results"):
            self.results = {}
        first = self.results.get(id(loaded))
        if first is None:
            shapes = super().execute(loaded, inputs, outputs)
            self.results[id(loaded)] = (loaded, [self.bytes(v).copy() for v in outputs], shapes)
            return shapes
        for view, data in zip(outputs, first[1], strict=True):
            self.bytes(view)[:] = data
        return first[2]


@fault("programs")
class ExecuteSwapsOperands(Card):
    """From the second run on, a program gets the operands of the run before."""

    def execute(self, loaded, inputs, outputs):
        if not hasattr(self, "before"):
            self.before = {}
        data = [self.bytes(view).copy() for view in inputs]
        old = self.before.get(id(loaded), data)
        self.before[id(loaded)] = data
        for view, stale in zip(inputs, old, strict=True):
            self.bytes(view)[:] = stale
        shapes = super().execute(loaded, inputs, outputs)
        for view, fresh in zip(inputs, data, strict=True):
            self.bytes(view)[:] = fresh
        return shapes


@fault("lifetime")
class LeaksOnExecute(Card):
    """Each run leaves 64 bytes behind."""

    def execute(self, loaded, inputs, outputs):
        self._reserve(64)
        return super().execute(loaded, inputs, outputs)


@fault("lifetime")
class LeaksOnLoad(Card):
    """Each loaded program leaves 64 bytes behind."""

    def load(self, program, constants, share=None):
        self._reserve(64)
        return super().load(program, constants, share)


@fault("programs")
class ConstantsReversed(Card):
    """Constants of one size are taken in from last to first."""

    def load(self, program, constants, share=None):
        given = list(constants)
        specs = [packed.spec for packed in given]
        if len({spec.nbytes for spec in specs}) == 1:
            given = [replace(p, spec=s) for p, s in zip(given[::-1], specs, strict=True)]
            given = [
                replace(packed, read=other.read)
                for packed, other in zip(given, list(given), strict=True)
            ]
        return super().load(program, iter(given), share)


@fault("programs")
class ConstantsByLength(Card):
    """A shared program's constants are found by their length, not by their digest."""

    def load(self, program, constants, share=None):
        loaded = super().load(program, constants, share)
        if share is not None:
            for slot, array in enumerate(loaded.slots):
                if isinstance(array, np.ndarray):
                    same = [
                        a
                        for a in share.constants.values()
                        if a.nbytes == array.nbytes and a.shape == array.shape
                    ]
                    loaded.slots[slot] = same[0] if same else array
        return loaded


@fault("programs")
class UnloadClearsShared(Card):
    """Unloading a program clears its constants, though another shares them."""

    def unload(self, loaded):
        for array in loaded.constants.values():
            if array.flags.writeable and array.flags.owndata:
                array[...] = 0
            else:
                for index, value in enumerate(loaded.slots):
                    if value is array:
                        loaded.slots[index] = None
        for array in loaded.constants.values():
            base = array
            while isinstance(base.base, np.ndarray):
                base = base.base
            if base.flags.writeable:
                base[...] = 0
            elif isinstance(base.base, bytes | bytearray | memoryview):
                self.spoil(array)

    def spoil(self, array):
        memory = np.lib.stride_tricks.as_strided(array)
        memory.setflags(write=False)
        import ctypes

        ctypes.memset(array.ctypes.data, 0, array.nbytes)


@fault("programs")
class ConstantsWearOut(Card):
    """Each run adds one to the first byte of every constant."""

    def execute(self, loaded, inputs, outputs):
        import ctypes

        shapes = super().execute(loaded, inputs, outputs)
        for array in loaded.constants.values():
            if array.nbytes:
                top = (ctypes.c_ubyte * array.nbytes).from_address(array.ctypes.data)
                top[array.nbytes - 1] ^= 0x40
        return shapes


@fault("shapes")
class ShapesAreBounds(Card):
    """A result of data-dependent size reports its bound."""

    def execute(self, loaded, inputs, outputs):
        shapes = super().execute(loaded, inputs, outputs)
        return None if shapes is None else [view.type.shape for view in outputs]


@fault("shapes")
class ShapesOfTheRunBefore(Card):
    """A result of data-dependent size reports the shape of the run before."""

    def execute(self, loaded, inputs, outputs):
        shapes = super().execute(loaded, inputs, outputs)
        if shapes is None:
            return None
        before, self.before = getattr(self, "before", shapes), shapes
        return before


@fault("shapes")
class ShapesAreMissing(Card):
    """A result of data-dependent size reports nothing."""

    def execute(self, loaded, inputs, outputs):
        super().execute(loaded, inputs, outputs)


@fault("concurrency", threading=Threading.FREE)
class RacesOnExecute(Card):
    """Declares that calls may overlap, and keeps the operands of a run in one place."""

    def execute(self, loaded, inputs, outputs):
        for view in (*inputs, *outputs):
            self.bytes(view)
        self.scratch = (inputs, outputs)
        time.sleep(0.0002)  # as a card takes time
        return super().execute(loaded, *self.scratch)


@fault("concurrency", threading=Threading.FREE)
class RacesOnAllocate(Card):
    """Declares that calls may overlap, and hands two that do the same memory."""

    inside = 0

    def allocate(self, nbytes, memory, alignment):
        self.inside += 1
        handle = super().allocate(nbytes, memory, alignment)
        time.sleep(0.0001)
        overlapped = self.inside > 1
        self.inside -= 1
        last, self.last = getattr(self, "last", None), handle
        if overlapped and last is not None and last.nbytes >= nbytes and id(last) in self.live:
            with self.lock:
                del self.live[id(handle)]
                handle = last[:nbytes]
                self.live[id(handle)] = handle
        return handle


@fault("concurrency", threading=Threading.FREE)
class RacesOnTransfers(Card):
    """Declares that calls may overlap, and stages all writes in one buffer."""

    stage = None

    def write(self, dst, source):
        self.stage = bytes(source)
        time.sleep(0.0002)
        data = self.stage
        if len(data) == dst.nbytes:
            super().write(dst, memoryview(data))
        else:
            super().write(dst, source)

    def fill(self, dst, pattern):
        self.pattern = pattern
        time.sleep(0.0002)
        super().fill(dst, self.pattern if dst.nbytes % len(self.pattern) == 0 else pattern)


@fault("concurrency", threading=Threading.FREE)
class WantsOneThread(Card):
    """Works on the thread that opened it alone, and does not say so."""

    def __init__(self, info, shape):
        super().__init__(info, shape)
        self.owner = threading.get_ident()

    def execute(self, loaded, inputs, outputs):
        if threading.get_ident() != self.owner:
            raise RuntimeError("no context is current on this thread")
        return super().execute(loaded, inputs, outputs)


@fault("honesty")
class ProfileIsEmpty(Card):
    """Declares profiling, and has no times."""

    def execute_profiled(self, loaded, inputs, outputs):
        return self.execute(loaded, inputs, outputs), ()


@fault("honesty")
class ProfileRunsBackwards(Card):
    """The times of a profile end before they start."""

    def execute_profiled(self, loaded, inputs, outputs):
        shapes, times = super().execute_profiled(loaded, inputs, outputs)
        return shapes, tuple(replace(t, started=t.finished, finished=t.started - 1) for t in times)


@fault("honesty")
class ProfiledRunIsEmpty(Card):
    """A profiled run has times, and no result."""

    def execute_profiled(self, loaded, inputs, outputs):
        kept = [self.bytes(view).copy() for view in outputs]
        shapes, times = super().execute_profiled(loaded, inputs, outputs)
        for view, data in zip(outputs, kept, strict=True):
            self.bytes(view)[:] = data
        return shapes, times


@fault("honesty")
class TelemetryHollow(Card):
    """Declares telemetry, and raises when it is asked."""

    def telemetry(self):
        raise Unimplemented("no telemetry in this firmware")


@fault("honesty")
class TelemetryIsAnObject(Card):
    """A reading is an object of the vendor's."""

    def telemetry(self):
        return {"temperature_c": object(), "power_w": float("nan")}


@fault("honesty")
class HealthIsAlwaysBad(Card):
    """A card that works says that it has failed."""

    healthy = False

    def __init__(self, info, shape):
        super().__init__(info, shape)
        self.healthy = False


@fault("programs")
class OperandsBeyondAPage(Card):
    """Operands beyond 4 KiB of their allocation are read from within its first page."""

    def execute(self, loaded, inputs, outputs):
        near = [replace(view, offset=view.offset % 4096) for view in inputs]
        return super().execute(loaded, near, outputs)


@fault("programs")
class OperandsOffsetsAreShort(Card):
    """Offsets of operands have 16 bits."""

    def execute(self, loaded, inputs, outputs):
        near = [replace(view, offset=view.offset % 65536) for view in inputs]
        return super().execute(loaded, near, outputs)


@fault("programs")
class EightOperands(Card):
    """The ninth and later operands are the eighth."""

    def execute(self, loaded, inputs, outputs):
        known = [
            inputs[7] if index > 7 and view.nbytes == inputs[7].nbytes else view
            for index, view in enumerate(inputs)
        ]
        return super().execute(loaded, known, outputs)


@fault("programs")
class SixteenPrograms(Card):
    """The seventeenth loaded program takes the place of the first."""

    def load(self, program, constants, share=None):
        made = super().load(program, constants, share)
        self.table = [*getattr(self, "table", ()), made]
        return made

    def execute(self, loaded, inputs, outputs):
        place = self.table.index(loaded)
        return super().execute(self.table[place % 16 :: 16][-1], inputs, outputs)
