"""Models that a plugin refuses in part, on the command line; and the cache of programs."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from accelsdk.cli import main as cli
from accelsdk.registry import registry
from tests.runtime.plans import OneOp


@pytest.fixture
def model(tmp_path, monkeypatch):
    """y = relu(x @ w), with w the identity times two."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [3, 3], np.eye(3, dtype="f4").ravel() * 2)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"], name="mm"),
        helper.make_node("Relu", ["xw"], ["y"], name="act"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])
    graph = helper.make_graph(nodes, "small", [x], [y], [weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(made, tmp_path / "small.onnx")
    np.savez(tmp_path / "feeds.npz", x=np.array([[1, -2, 3], [4, 5, -6]], np.float32))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(registry()._backends, "one_op", ("one_op", OneOp()))
    return tmp_path / "small.onnx"


def flat(text):
    return " ".join(text.split())


def test_run_says_where_it_ran(model, run):
    code, out, err = run("run", model, "-p", "one_op", "-i", "feeds.npz", "-O", "out.npz")
    assert (code, err) == (cli.OK, "")
    assert "ran 1 part on one_op/cpu and 1 part on reference_cpu/cpu; 48 B copied" in flat(out)
    assert "2 nodes on one_op:0 and reference_cpu:0" in flat(out)
    assert np.load("out.npz")["y"].tolist() == [[2, 0, 6], [8, 10, 0]]


def test_run_of_one_place_says_nothing_of_parts(model, run):
    _, out, _ = run("run", model, "-i", "feeds.npz")
    assert "copied" not in out


@pytest.mark.parametrize("command", [["run", "--random", "1"], ["compile"]])
def test_without_a_fallback_every_reason_is_told(model, run, command):
    code, _, err = run(*command, model, "-p", "one_op", "--no-fallback")
    assert code == cli.COULD_NOT_RUN
    assert "1 of 2 nodes cannot run on cpu" in err
    assert "only MatMul is built in, not" in err


def test_compile_lists_parts_and_copies(model, run):
    code, out, _ = run("compile", model, "-p", "one_op")
    assert code == cli.OK
    text = flat(out)
    assert "2 parts, one after the other:" in text
    assert "one_op/cpu" in text
    assert "reference_cpu/cpu" in text
    assert "2 copies in each run, 48 B:" in text
    assert "(24 B): small.1 to the caller" in text
    code, out, _ = run("run", "small.accel", "-p", "one_op", "-i", "feeds.npz")
    assert code == cli.OK
    assert "ran 1 part on one_op/cpu" in flat(out)


def test_a_program_in_parts_needs_its_fallback(model, run):
    run("compile", model, "-p", "one_op")
    command = ("run", "small.accel", "-p", "one_op", "-i", "feeds.npz", "--no-fallback")
    code, _, err = run(*command)
    assert code == cli.COULD_NOT_RUN
    assert "part 'small.1' of the program was compiled by backend reference_cpu" in err


def test_the_cache_is_used_unless_told_otherwise(model, run, monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELSDK_CACHE", str(tmp_path / "cache"))
    run("run", model, "-i", "feeds.npz", "--no-cache")
    assert not (tmp_path / "cache").exists()
    _, first, _ = run("run", model, "-i", "feeds.npz")
    assert run("compile", model, "--shape", "x=2,3")[0] == cli.OK
    (entry,) = (tmp_path / "cache").iterdir()
    assert entry.read_bytes() == (tmp_path / "small.accel").read_bytes()
    monkeypatch.setattr("accelsdk.compiler.pipeline.plan", None)  # as good as not there
    code, second, err = run("run", model, "-i", "feeds.npz")
    assert (code, err) == (cli.OK, "")
    assert second.splitlines()[0] == first.splitlines()[0]


@pytest.mark.parametrize("command", ["run", "compile"])
def test_help_teaches(run, command):
    text = flat(run(command, "--help")[1].replace("│", " "))
    assert "--no-fallback" in text
    assert "--no-cache" in text
    assert "in parts" in text or "how much ran where" in text
