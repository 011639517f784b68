"""The options of the backend, and the sessions that are made with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from accelsdk.backend.info import Options, OptionScope, OptionSpec

if TYPE_CHECKING:
    import onnxruntime

MEMORY: Final = OptionSpec(
    name="memory", default=8 << 30, help="Bytes of device memory; allocating more fails."
)
THREADS: Final = OptionSpec(
    name="threads", default=0, help="Threads that share one node; 0: one a core."
)
OPTIMIZATION: Final = OptionSpec(
    name="optimization",
    default="all",
    help="How far onnxruntime may rewrite the graph when it is loaded.",
    choices=("disabled", "basic", "extended", "all"),
)
PREPACK: Final = OptionSpec(
    name="prepack",
    default=True,
    help="Keep weights a second time, in the order that their kernel reads them in: faster.",
)
#: Choices of `KERNELS`.
RIGHT, EVERY = "right", "all"
KERNELS: Final = OptionSpec(
    name="kernels",
    default=RIGHT,
    help="right: only what onnxruntime was measured to compute right; all: whatever it has.",
    scope=OptionScope.TARGET,
    choices=(RIGHT, EVERY),
)
OPTIONS: Final = (MEMORY, THREADS, OPTIMIZATION, PREPACK, KERNELS)

#: Errors are raised; they need not be printed too.
_FATAL_ONLY = 4

#: Rewrites 1 / x * y as y / x for integers, too (1.31), where the quotient truncates.
_WRONG = ["DivMulFusion"]


def session(model: bytes, constants: Mapping[str, onnxruntime.OrtValue], options: Options) -> Any:  # noqa: ANN401 # onnxruntime ships no types
    """Returns a session of a model whose constants lie outside it.

    Args:
        model: An exported model without contents.
        constants: Contents by name. The memory behind them must outlive the session.
        options: Resolved options of the backend.
    """
    import onnxruntime

    given = onnxruntime.SessionOptions()
    given.log_severity_level = _FATAL_ONLY
    given.intra_op_num_threads = int(options[THREADS.name])
    levels = onnxruntime.GraphOptimizationLevel
    given.graph_optimization_level = {
        "disabled": levels.ORT_DISABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "all": levels.ORT_ENABLE_ALL,
    }[str(options[OPTIMIZATION.name])]
    if not options[PREPACK.name]:
        given.add_session_config_entry("session.disable_prepacking", "1")
    # As external data they can be folded and rewritten; as shared initialisers those that
    # survive it are read where they are (otherwise onnxruntime copies them).
    given.add_external_initializers(list(constants), list(constants.values()))
    for name, value in constants.items():
        given.add_initializer(name, value)
    return onnxruntime.InferenceSession(
        model, given, providers=["CPUExecutionProvider"], disabled_optimizers=_WRONG
    )
