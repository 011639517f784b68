"""`accelsdk explain` on real plugins: text, JSON, HTML and ONNX tell the same story."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from accelsdk.backend.backend import Support, Verdict
from accelsdk.cli import main as cli
from accelsdk.cli.explanation.record import FORMAT, schema
from accelsdk.registry import registry
from tests.runtime.plans import OneOp

jsonschema = pytest.importorskip("jsonschema")
PLUGINS = ["reference_cpu", "sim_card"]
FLOAT = TensorProto.FLOAT


def save(path, nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, "small", inputs, outputs, list(initializers))
    opset = [helper.make_opsetid("", 21)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)


def of(name, *shape):
    return helper.make_tensor_value_info(name, FLOAT, shape)


def whole_numbers(name, *shape, seed=1):
    numbers = np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)
    return numpy_helper.from_array(numbers, name)


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Two layers with a skip connection: sums of small whole numbers, so exact everywhere."""
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="first"),
        helper.make_node("Add", ["a", "b1"], ["b"], name="bias"),
        helper.make_node("Relu", ["b"], ["c"], name="act"),
        helper.make_node("MatMul", ["c", "w2"], ["d"], name="second"),
        helper.make_node("Add", ["d", "c"], ["y"], name="skip"),
    ]
    weights = [whole_numbers("w1", 8, 8), whole_numbers("b1", 8), whole_numbers("w2", 8, 8, seed=2)]
    save(tmp_path / "small.onnx", nodes, [of("x", "n", 8)], [of("y", "n", 8)], weights)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(registry()._backends, "one_op", ("one_op", OneOp()))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path / "small.onnx"


def flat(text):
    return " ".join(text.replace("│", " ").split())


def record(run, *arguments):
    code, out, _ = run("explain", *arguments, "--json", "-")
    found = json.loads(out)
    jsonschema.validate(found, schema(), cls=jsonschema.Draft202012Validator)
    return code, found


def test_the_text_tells_parts_reasons_copies_and_memory(model, run):
    code, out, err = run("explain", model, "-p", "one_op", "-s", "x=2,8")
    assert (code, err) == (cli.OK, "")
    assert max(map(len, out.splitlines())) <= 80
    text = flat(out)
    for told in (
        "[1] only MatMul is built in, not Add",
        "on one_op/cpu: 2 native on reference_cpu/cpu: 3 native",
        "4 parts; static memory plan of each:",
        "reference_cpu/cpu publishes no peak rates",
        "100.0%",
    ):
        assert told in text
    assert re.search(r"\d copies in each run, [\d.]+ B:", text)


class Software(type(registry().backend("reference_cpu"))):
    """Runs Relu in software, and says so."""

    @property
    def info(self):
        return replace(super().info, name="software")

    def supports(self, graph, node, target):
        if node.op in ("Relu", "Max"):
            return Support(Verdict.EMULATED, text=f"{node.op} runs in software")
        return super().supports(graph, node, target)


def test_what_is_emulated_is_told_with_its_reason(model, run, monkeypatch):
    monkeypatch.setitem(registry()._backends, "software", ("software", Software()))
    code, out, _ = run("explain", model, "-p", "software", "-s", "x=2,8", "--html", "page.html")
    assert code == cli.OK
    assert re.search(r"Max +Relu( › Relu)? +emulated \[1\]", out)
    assert "[1] Max runs in software" in out
    assert "on software/cpu: 4 native, 1 emulated" in flat(out)
    text = (model.parent / "page.html").read_text("utf-8")
    assert 'class="node p0 emulated"' in text
    assert '<span class="key emulated"></span>emulated' in text


def test_without_a_fallback_each_refusal_is_listed_with_its_reason(model, run):
    code, out, _ = run("explain", model, "-p", "one_op", "-s", "x=2,8", "--no-fallback")
    assert code == cli.BAD
    refused = [line for line in out.splitlines() if line.startswith("refused: ")]
    assert len(refused) == 3
    # Relu found its place neither whole nor in pieces; the piece is what is refused in the end.
    assert "(Max) from act: only MatMul is built in, not Max" in flat(out)


def test_claims_and_the_least_time_are_told(model, run):
    code, out, _ = run("explain", model, "-p", "sim_card", "-s", "x=2,8")
    assert code == cli.OK
    assert "in matmul+bias+relu" in out
    assert "1 region claimed: matmul+bias+relu ×1 (3 nodes) on sim_card/" in flat(out)
    assert re.search(r"at least [\d.]+ (ns|µs) on sim_card/\S+, by its roofline", flat(out))


def test_a_long_model_shows_what_moves_most_unless_all_is_asked_for(run, tmp_path):
    ops = ["Tanh", "Sigmoid"] * 40
    names = [f"v{n}" for n in range(len(ops) + 1)]
    nodes = [helper.make_node(op, [names[n]], [names[n + 1]]) for n, op in enumerate(ops)]
    save(tmp_path / "long.onnx", nodes, [of("v0", 4)], [of(names[-1], 4)])
    short = run("explain", tmp_path / "long.onnx")[1]
    assert "the 40 nodes that move most bytes; 40 more (--all, --json or --html)" in flat(short)
    every = run("explain", tmp_path / "long.onnx", "--all")[1]
    assert "more (--all" not in every
    assert len(re.findall(r"^ *\d+ +(Tanh|Sigmoid) ", every, re.MULTILINE)) == 80


@pytest.mark.parametrize("plugin", [*PLUGINS, "one_op"])
def test_the_record_keeps_to_its_schema_and_adds_up(model, run, plugin):
    code, found = record(run, model, "-p", plugin, "-s", "x=2,8")
    assert code == cli.OK
    assert (found["format"], found["model"], found["refused"]) == (FORMAT, "small.onnx", False)
    nodes, parts = found["nodes"], found["parts"]
    assert found["totals"]["nodes"] == len(nodes) == sum(len(part["nodes"]) for part in parts)
    assert found["totals"]["operations"] == sum(node["operations"] for node in nodes)
    for node in nodes:
        assert node["name"] in parts[node["part"]]["nodes"]
        assert node["place"] == parts[node["part"]]["place"]
        assert node["intensity"] == pytest.approx(node["operations"] / node["bytes"])
    crossing = sum(transfer["value"]["bytes"] for transfer in found["transfers"])
    assert found["totals"]["transfer_bytes"] == crossing
    for part in parts:
        memory = part["memory"]
        ends = [stretch["offset"] + stretch["bytes"] for stretch in memory["stretches"]]
        assert max(ends) <= memory["arena_bytes"]
        made = {name for stretch in memory["stretches"] for name in stretch["values"]}
        inside = [node for node in nodes if node["name"] in part["nodes"]]
        assert made == {value["name"] for node in inside for value in node["outputs"]}


def test_stretches_that_are_in_use_at_once_do_not_overlap(model, run):
    _, found = record(run, model, "-p", "reference_cpu", "-s", "x=64,8")
    (part,) = found["parts"]
    stretches = part["memory"]["stretches"]
    for index, one in enumerate(stretches):
        for other in stretches[:index]:
            together = one["first"] <= other["last"] and other["first"] <= one["last"]
            apart = (
                one["offset"] + one["bytes"] <= other["offset"]
                or other["offset"] + other["bytes"] <= one["offset"]
            )
            assert apart or not together


def test_a_step_takes_the_longer_of_arithmetic_and_traffic(model, run):
    _, found = record(run, model, "-p", "sim_card", "-s", "x=2,8")
    (part,), peaks = found["parts"], found["places"][0]["roofline"]
    assert [name for step in part["steps"] for name in step["nodes"]] != []
    for step in part["steps"]:
        arithmetic = step["operations"] / peaks["operations"]["float32"]
        traffic = step["bytes"] / peaks["memory_bandwidth"]
        assert step["seconds"] == pytest.approx(max(arithmetic, traffic))
        assert step["bound"] == ("arithmetic" if arithmetic > traffic else "memory")
    assert found["totals"]["seconds"] == pytest.approx(sum(s["seconds"] for s in part["steps"]))
    (fused,) = (step for step in part["steps"] if len(step["nodes"]) > 1)
    assert (fused["name"], fused["nodes"][0]) == ("matmul+bias+relu", "first/MatMul")
    assert fused["bytes"] == 4 * (2 * 8 + 8 * 8 + 8 + 2 * 8)  # x, w1, b1 and what Relu makes


def test_a_refused_model_has_a_record_too(model, run):
    arguments = (model, "-p", "one_op", "-s", "x=2,8", "--no-fallback")
    code, found = record(run, *arguments)
    assert code == cli.BAD
    assert (found["refused"], found["parts"], found["transfers"]) == (True, [], [])
    assert {item["op"] for item in found["refusals"]} == {"Add", "Max"}


@pytest.mark.parametrize("change", [("format", "2.0"), ("nodes", [{}]), ("more", 1)])
def test_the_schema_refuses_what_is_none(model, run, change):
    _, found = record(run, model, "-s", "x=2,8")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**found, change[0]: change[1]}, schema())


@pytest.mark.parametrize("suffix", ["json", "html", "onnx"])
def test_equal_calls_write_equal_files(model, run, suffix, tmp_path):
    for name in ("a", "b"):
        path = tmp_path / f"{name}.{suffix}"
        code, out, _ = run("explain", model, "-p", "one_op", "-s", "x=2,8", f"--{suffix}", path)
        assert code == cli.OK
        assert f"wrote {path}" in out
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", ["json", "html", "onnx"])
def test_a_file_that_cannot_be_written_is_one_message(model, run, suffix):
    code, _, err = run("explain", model, "-s", "x=2,8", f"--{suffix}", f"no/such/a.{suffix}")
    assert code == cli.USAGE
    assert "no/such" in err


class Page(HTMLParser):
    """Counts what a page has, and notes what it would load."""

    def __init__(self, text):
        super().__init__()
        self.open, self.nodes, self.parts, self.rows, self.loads = [], [], 0, 0, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        css = (given.get("class") or "").split()
        self.nodes += [given["data-tip"]] if tag == "g" and "node" in css else []
        self.parts += tag == "details" and "part" in css
        self.rows += given.get("id", "").startswith("n-")
        self.loads += [given[name] for name in ("src", "href") if name in given]
        if tag not in ("meta", "input", "br", "path", "rect", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("path", "rect", "circle"):
            assert self.open.pop() == tag


@pytest.mark.parametrize("plugin", [*PLUGINS, "one_op"])
def test_the_page_is_whole_and_loads_nothing(model, run, plugin):
    arguments = (model, "-p", plugin, "-s", "x=2,8")
    _, found = record(run, *arguments)
    run("explain", *arguments, "--html", "page.html")
    text = (model.parent / "page.html").read_text("utf-8")
    page = Page(text)
    drawings = 1 if len(found["parts"]) == 1 else 2  # of the whole, and of the parts
    assert page.open == []
    assert len(page.nodes) == drawings * len(found["nodes"])
    assert (page.rows, page.parts) == (len(found["nodes"]), len(found["parts"]))
    assert [link for link in page.loads if not link.startswith("#part-")] == []
    assert re.search(r"(https?:)?//\w+\.", text) is None
    assert ("roofline" in re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.DOTALL)) == (
        plugin == "sim_card"
    )
    (told,) = {tip for tip in page.nodes if "computes for first" in tip and "MatMul  " in tip}
    assert "float32[2,8]" in told
    assert "operations" in told


def test_a_refused_model_has_a_page_too(model, run):
    code, _, _ = run(
        "explain", model, "-p", "one_op", "-s", "x=2,8", "--no-fallback", "--html", "page.html"
    )
    assert code == cli.BAD
    text = (model.parent / "page.html").read_text("utf-8")
    assert "Refused: 3 of 5 nodes can run nowhere." in text
    assert len(Page(text).nodes) == 5


def test_names_from_the_model_stay_text(run, tmp_path):
    name = "<script>alert('x')</script>$title\"&"
    save(
        tmp_path / "odd.onnx",
        [helper.make_node("Relu", ["x"], [name], name=name)],
        [of("x", 2)],
        [of(name, 2)],
    )
    assert run("explain", tmp_path / "odd.onnx", "--html", tmp_path / "p.html")[0] == cli.OK
    text = (tmp_path / "p.html").read_text("utf-8")
    assert "<script>alert" not in text
    assert text.count("<script>") == 1
    assert len(Page(text).nodes) == 1


@pytest.mark.parametrize("arguments", [["-p", "sim_card"], ["-p", "one_op"]], ids=str)
def test_the_exported_graph_runs_in_onnxruntime_to_the_same_results(model, run, arguments):
    onnxruntime = pytest.importorskip("onnxruntime")
    code, _, _ = run("explain", model, "-s", "x=2,8", *arguments, "--onnx", "lowered.onnx")
    assert code == cli.OK
    x = np.random.default_rng(3).integers(-4, 5, (2, 8)).astype(np.float32)
    (given,), (lowered,) = (
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})
        for path in (str(model), "lowered.onnx")
    )
    np.testing.assert_array_equal(lowered, given)


def test_a_bound_input_is_none_of_the_graphs(model, run):
    ones = json.dumps([[1] * 8])
    _, found = record(run, model, "-s", "x=1,8", "--bind", f"x={ones}")
    assert found["inputs"] == []
    assert found["nodes"] == []  # all is known at once


def test_help_teaches(run):
    text = flat(run("explain", "--help")[1])
    for word in (
        "--no-fallback",
        "--bind",
        "--html",
        "--json",
        "--onnx",
        "--all",
        "Example:",
        "emulated",
    ):
        assert word in text
