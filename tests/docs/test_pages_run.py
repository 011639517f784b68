"""Every Python block in the documentation runs, page by page, in order."""

import re
import warnings

import onnx
import pytest
from onnx import TensorProto, helper

from tests.docs.pages import ROOT, blocks

FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def without_code(page):
    return FENCED.sub("", page.read_text(encoding="utf-8"))


PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if path.name != "write-a-plugin.md"  # has a test of its own: it makes a project
)


@pytest.fixture
def folder_with_model(tmp_path, monkeypatch):
    """A folder with ``model.onnx``, an image classifier without weights worth the name."""
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 224, 224])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("Softmax", ["flat"], ["scores"], name="softmax", axis=1),
    ]
    graph = helper.make_graph(nodes, "classifier", [image], [scores])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10),
        tmp_path / "model.onnx",
    )
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.usefixtures("folder_with_model")
def test_python_blocks_run(page):
    namespace = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language == "python":
            source = "\n" * (block.line - 1) + block.text  # errors then name the page's line
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                exec(compile(source, page, "exec"), namespace)


def test_links_lead_somewhere():
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    link = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in link.findall(without_code(page))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken
