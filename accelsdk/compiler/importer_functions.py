"""Bodies of functions: the model's own, and those that ONNX defines for its ops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import defs

from accelsdk.graph.types import Value


def with_settings(
    proto: onnx.NodeProto, settings: Mapping[str, onnx.AttributeProto]
) -> onnx.NodeProto:
    """Returns a node of a function body with the call's attributes put in."""
    if not any(item.ref_attr_name for item in proto.attribute):
        return proto
    made = onnx.NodeProto()
    made.CopyFrom(proto)
    del made.attribute[:]
    for item in proto.attribute:
        if not item.ref_attr_name:
            made.attribute.append(item)
        elif item.ref_attr_name in settings:
            given = made.attribute.add()
            given.CopyFrom(settings[item.ref_attr_name])
            given.name = item.name
    return made


def without(proto: onnx.NodeProto, missing: set[str]) -> onnx.NodeProto:
    """Returns a node of a function body without operands that the call left out."""
    if not missing.intersection(proto.input):
        return proto
    made = onnx.NodeProto()
    made.CopyFrom(proto)
    made.input[:] = ["" if item in missing else item for item in proto.input]
    return made


def schema_defaults(proto: onnx.NodeProto, opset: int) -> dict[str, onnx.AttributeProto]:
    """Returns the default values of an ONNX op's attributes, by name."""
    schema: Any = defs.get_schema(proto.op_type, opset, "")
    return {
        name: item.default_value
        for name, item in schema.attributes.items()
        if item.default_value.name
    }


def schema_function(
    proto: onnx.NodeProto, inputs: Sequence[Value | None], opset: int
) -> onnx.FunctionProto | None:
    """Returns the body that ONNX itself defines for an op, if it does."""
    if not defs.has(proto.op_type, max_inclusive_version=opset):
        return None
    schema: Any = defs.get_schema(proto.op_type, opset, "")
    if schema.has_context_dependent_function:
        versions = schema.context_dependent_function_opset_versions
        version = max((v for v in versions if v <= opset), default=min(versions))
        types = [_type_proto(value).SerializeToString() for value in inputs]
        data = schema.get_context_dependent_function_with_opset_version(
            version, proto.SerializeToString(), types
        )
    elif schema.has_function:
        versions = schema.function_opset_versions
        version = max((v for v in versions if v <= opset), default=min(versions))
        data = schema.get_function_with_opset_version(version)
    else:
        return None
    if not data:
        return None
    body = onnx.FunctionProto()
    body.ParseFromString(data)
    return body


def _type_proto(value: Value | None) -> onnx.TypeProto:
    if value is None:
        return onnx.TypeProto()
    kind = onnx.helper.np_dtype_to_tensor_dtype(value.format.dtype)
    return onnx.helper.make_tensor_type_proto(kind, list(value.shape))
