"""What a vendor compiles with: one stateless object that needs no open card."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.backend.driver import Driver
from accelsdk.backend.info import BackendInfo, DeviceInfo, Discovery, Options, Target
from accelsdk.backend.program import ConstantPacker, Program, ProgramHeader
from accelsdk.graph.graph import Graph, Node


class Verdict(StrEnum):
    """How a backend would run a node."""

    NATIVE = "native"  # by itself, as one op
    EMULATED = "emulated"  # right, but not as the hardware is meant to be used
    UNSUPPORTED = "unsupported"


class Refusal(StrEnum):
    """Why a node is unsupported."""

    NONE = ""
    OPERATOR = "operator"
    ATTRIBUTE = "attribute"
    FORMAT = "format"
    SHAPE = "shape"


@dataclass(frozen=True, slots=True)
class Support:
    """Answer to "would you run this node?".

    Attributes:
        verdict: Native, emulated or unsupported.
        refusal: What stands in the way, if unsupported.
        text: One sentence for people: what stands in the way and what would run instead.
    """

    verdict: Verdict
    refusal: Refusal = Refusal.NONE
    text: str = ""

    def __bool__(self) -> bool:
        return self.verdict is not Verdict.UNSUPPORTED


#: The short answers.
NATIVE = Support(Verdict.NATIVE)
EMULATED = Support(Verdict.EMULATED)


def refuse(refusal: Refusal, text: str) -> Support:
    """Returns an `UNSUPPORTED` answer with its reason."""
    return Support(Verdict.UNSUPPORTED, refusal, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A set of nodes that a backend wants to run as one region.

    Attributes:
        nodes: Names; convex (no path leaves the set and comes back). The SDK checks.
        support: How it would run them.
        name: For people, such as ``"conv+bias+relu"``.
        cost: Estimated seconds, if known.
    """

    nodes: tuple[str, ...]
    support: Support
    name: str = ""
    cost: float | None = None


class Compatibility(StrEnum):
    """How well a compiled program fits a target, judged from its header alone."""

    OPTIMAL = "optimal"
    PREFER_RECOMPILE = "prefer-recompile"  # runs, but would run better compiled again
    UNSUPPORTED = "unsupported"  # ours, but not for this target or version
    NOT_APPLICABLE = "not-applicable"  # another backend's program


class Backend(ABC):
    """One backend of a vendor. Stateless and thread-safe; needs no open card.

    Making one must import no heavy vendor library: do that in `enumerate_devices`,
    `compile` and `open`.
    """

    @property
    @abstractmethod
    def info(self) -> BackendInfo:
        """Who this is. Constant."""

    @abstractmethod
    def targets(self, options: Options) -> Sequence[Target]:
        """Returns what can be compiled for, with or without a card.

        Args:
            options: All options of `BackendInfo.options`, resolved.
        """

    @abstractmethod
    def enumerate_devices(self, options: Options) -> Discovery:
        """Returns the cards of this host without opening one; absence is a reason.

        Args:
            options: All options of `BackendInfo.options`, resolved.
        """

    @abstractmethod
    def supports(self, graph: Graph, node: Node, target: Target) -> Support:
        """Says whether ``node`` could run on ``target``.

        Whatever gets NATIVE or EMULATED must compile and run. May depend on op, attributes,
        formats and shapes, never on the contents of constants.
        """

    @abstractmethod
    def compile(
        self, graph: Graph, target: Target, options: Options, pack: ConstantPacker
    ) -> Program:
        """Compiles a lowered graph ahead of time.

        Args:
            graph: Verified; core ops and composites that `supports` accepted. Borrowed for
                the call.
            target: One of `targets`.
            options: All options, resolved.
            pack: Takes the constants that the program needs, in manifest order.

        Raises:
            UnsupportedGraph: Only if `supports` could not have known; names the nodes.
        """

    @abstractmethod
    def open(self, device: DeviceInfo, options: Options) -> Driver:
        """Opens a card.

        Raises:
            Unavailable: The card is gone, or another process holds it.
        """

    # -- defaults ------------------------------------------------------------------------

    def claim(self, graph: Graph, target: Target) -> Sequence[Claim]:
        """Returns the regions that this backend would run. Default: node by node."""
        return [
            Claim(nodes=(node.name,), support=support, name=node.op)
            for node in graph.nodes
            if (support := self.supports(graph, node, target))
        ]

    def datasheet(self, target: Target) -> NumericsDatasheet:
        """Returns what the target's arithmetic claims to be. Default: nothing claimed."""
        return NumericsDatasheet()

    def check(self, header: ProgramHeader, target: Target) -> Compatibility:
        """Judges a compiled program from its header. Default: exact match or nothing."""
        if header.backend != self.info.name:
            return Compatibility.NOT_APPLICABLE
        same = (
            header.target == target.name
            and header.backend_version == self.info.version
            and dict(header.target_options) == dict(target.options)
        )
        return Compatibility.OPTIMAL if same else Compatibility.UNSUPPORTED
