"""Every lowering rule, and every attribute that it knows, is tested against direct evaluation."""

import inspect
from pathlib import Path

import pytest
from onnx import defs

from accelsdk.compiler.importer_rows import FIRST_AXIS
from accelsdk.compiler.rules.catalogue import RULES
from accelsdk.graph.graph import ONNX
from tests.compiler.rules import (
    test_constant_rules,
    test_contraction_rules,
    test_elementwise_rules,
    test_index_rules,
    test_movement_rules,
    test_recurrent_rules,
    test_reduction_rules,
    test_resampling_rules,
    test_sliding_rules,
)

_MODULES = (
    *(test_constant_rules, test_contraction_rules, test_elementwise_rules, test_index_rules),
    *(test_movement_rules, test_recurrent_rules, test_reduction_rules, test_resampling_rules),
    test_sliding_rules,
)
RECIPES = {op: recipe for module in _MODULES for op, recipe in module.RECIPES.by_op.items()}

#: Rules for ops that ONNX itself defines; those of onnxruntime are tested beside.
_OF_ONNX = [rule for rule in RULES if rule.domain == ONNX and defs.has(rule.op)]

#: Attributes that recipes have no use for, and why.
_UNDRAWN = {
    ("Range", "stash_type"): "opset 27; it says nothing of the result's values",
    ("ConstantOfShape", "value_format"): "made by the importer, beside `value`",
    ("Reshape", "shape"): "opset 1 to 4, before it became an operand",
    **{
        (op, FIRST_AXIS): "made by the importer, of an older opset's axis"
        for op in ("Softmax", "LogSoftmax", "Hardmax")
    },
}


def _known(rule) -> frozenset[str]:
    """The attributes that a rule made by `accelsdk.compiler.rules.common.rule` heeds."""
    return inspect.getclosurevars(rule.rewrite).nonlocals.get("known", frozenset())


def _name(rule) -> str:
    return f"{rule.domain}:{rule.op}"


def _elsewhere(op: str) -> str | None:
    """The other test file of this folder that has an op."""
    mine = {Path(__file__).name, *(Path(module.__file__).name for module in _MODULES)}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path.name not in mine and f'"{op}"' in path.read_text(encoding="utf-8"):
            return path.name
    return None


@pytest.mark.parametrize("rule", _OF_ONNX, ids=_name)
def test_every_rule_is_tested(rule):
    recipe = RECIPES.get(rule.op)
    if recipe is None:
        assert _elsewhere(rule.op), f"write a recipe for {_name(rule)}"
        return
    reasons = {name for op, name in _UNDRAWN if op == rule.op}
    assert _known(rule) - recipe.attributes - reasons == frozenset()


def test_every_recipe_has_its_rule():
    assert RECIPES.keys() <= {rule.op for rule in RULES if rule.domain == ONNX}
