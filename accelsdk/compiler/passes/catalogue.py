"""What every model is optimised with."""

from __future__ import annotations

from accelsdk.compiler.passes.clamps import CLAMPS
from accelsdk.compiler.passes.codes_back import CODES_BACK
from accelsdk.compiler.passes.constant_folding import CONSTANT_FOLDING
from accelsdk.compiler.passes.constants_late import CONSTANTS_LATE
from accelsdk.compiler.passes.cse import CSE
from accelsdk.compiler.passes.dead_code import DEAD_CODE
from accelsdk.compiler.passes.fold_affine import FOLD_AFFINE
from accelsdk.compiler.passes.fold_pad import FOLD_PAD
from accelsdk.compiler.passes.gather_early import GATHER_EARLY
from accelsdk.compiler.passes.integer_contraction import INTEGER_CONTRACTION
from accelsdk.compiler.passes.manager import Pass
from accelsdk.compiler.passes.move_codes import MOVE_CODES
from accelsdk.compiler.passes.no_ops import NO_OPS
from accelsdk.compiler.passes.scale_late import SCALE_LATE
from accelsdk.compiler.passes.transposes import TRANSPOSES

#: In order; `accelsdk.compiler.passes.manager.run_passes` repeats them until none changes
#: anything.
PASSES: tuple[Pass, ...] = (
    DEAD_CODE,
    CONSTANT_FOLDING,
    NO_OPS,
    CSE,
    GATHER_EARLY,
    MOVE_CODES,
    CODES_BACK,
    INTEGER_CONTRACTION,
    SCALE_LATE,
    FOLD_AFFINE,
    CLAMPS,
    FOLD_PAD,
    TRANSPOSES,
    CONSTANTS_LATE,
)
