"""Window arithmetic that convolutions and pools share."""

from __future__ import annotations

from accelsdk.graph.opdef import AttributeDef, Call, integers
from accelsdk.graph.types import Shape

#: Every window attribute is explicit: the importer resolves auto_pad and defaults.
STRIDES: AttributeDef = integers("strides", help="one per spatial axis")
PADS: AttributeDef = integers("pads", help="begin of every spatial axis, then every end")
DILATIONS: AttributeDef = integers("dilations", help="one per spatial axis")


def check_window(call: Call, kernel: Shape) -> None:
    """Checks that strides, pads and dilations fit a kernel of 1 to 3 spatial axes."""
    spatial = len(kernel)
    call.check(1 <= spatial <= 3, "rank", f"{spatial} spatial axes; it takes 1 to 3")
    for name, count, least in (
        ("strides", spatial, 1),
        ("dilations", spatial, 1),
        ("pads", 2 * spatial, 0),
    ):
        given = call.ints(name)
        call.check(
            len(given) == count and all(item >= least for item in given),
            "window",
            f"{name} is {given}; it must be {count} integers, each {least} or more",
        )
    call.check(min(kernel) >= 1, "window", f"kernel {kernel} has an empty axis")


def window_extents(call: Call, extents: Shape, kernel: Shape, ceil_mode: bool = False) -> Shape:
    """Returns the spatial extents of what a sliding window gives.

    With ``ceil_mode``, a window that would start in the end padding is left out (ONNX).
    """
    spatial = len(kernel)
    pads, strides, dilations = call.ints("pads"), call.ints("strides"), call.ints("dilations")
    found = []
    for axis, extent in enumerate(extents):
        span = (kernel[axis] - 1) * dilations[axis] + 1
        room = extent + pads[axis] + pads[axis + spatial] - span
        call.check(room >= 0, "window", f"window of {span} is wider than axis {axis + 2}")
        steps = -(-room // strides[axis]) if ceil_mode else room // strides[axis]
        if ceil_mode and steps * strides[axis] >= extent + pads[axis]:
            steps -= 1
        found.append(steps + 1)
    return tuple(found)
