"""The commands on real plugins and a small model: outputs, files, messages, exit codes."""

import os
import shutil
import subprocess
import sys

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from accelsdk.cli import main as cli

PLUGINS = ["reference_cpu", "sim_card"]


def save_model(path, nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, "small", inputs, outputs, list(initializers))
    opset = [helper.make_opsetid("", 21)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)


def tensor(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


@pytest.fixture
def model(tmp_path, monkeypatch):
    """y = relu(x @ w), with an open batch dimension; w is the identity times two."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [3, 3], np.eye(3, dtype="f4").ravel() * 2)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"], name="mm"),
        helper.make_node("Relu", ["xw"], ["y"], name="act"),
    ]
    path = tmp_path / "small.onnx"
    save_model(path, nodes, [tensor("x", ["n", 3])], [tensor("y", ["n", 3])], [weights])
    monkeypatch.chdir(tmp_path)
    return path


@pytest.mark.parametrize("plugin", PLUGINS)
def test_run_reads_npz_and_writes_npz(model, run, plugin, tmp_path):
    feeds, results = tmp_path / "feeds.npz", tmp_path / "results.npz"
    x = np.array([[1, -2, 3]], np.float32)
    np.savez(feeds, x=x)
    code, out, _ = run("run", model, "-p", plugin, "-i", feeds, "-O", results)
    assert code == cli.OK
    with np.load(results) as archive:
        np.testing.assert_array_equal(archive["y"], [[2, 0, 6]])
    assert "MatMul" in out
    assert "slowest first" in out
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize("plugin", PLUGINS)
def test_compiled_program_gives_the_same_bits(model, run, plugin, tmp_path):
    feeds = tmp_path / "feeds.npz"
    np.savez(feeds, x=np.random.default_rng(3).standard_normal((4, 3), np.float32))
    assert run("compile", model, "-p", plugin, "-s", "x=4,3", "-O", "small.accel")[0] == cli.OK
    assert run("run", "small.accel", "-p", plugin, "-i", feeds, "-O", "a.npz")[0] == cli.OK
    assert run("run", model, "-p", plugin, "-i", feeds, "-O", "b.npz")[0] == cli.OK
    with np.load("a.npz") as a, np.load("b.npz") as b:
        assert a["y"].tobytes() == b["y"].tobytes()


def test_program_of_another_backend_is_refused(model, run):
    run("compile", model, "-p", "sim_card", "-s", "x=1,3", "-O", "small.accel")
    code, _, err = run("run", "small.accel", "-p", "reference_cpu", "--random", "1")
    assert code == cli.COULD_NOT_RUN
    assert "sim_card" in err


def test_random_feeds_are_repeatable(model, run):
    for name in ("a.npz", "b.npz"):
        assert run("run", model, "--random", "7", "-s", "x=2,3", "-O", name)[0] == cli.OK
    with np.load("a.npz") as a, np.load("b.npz") as b:
        assert a["y"].tobytes() == b["y"].tobytes()


def test_explain_shows_ops_and_totals(model, run):
    code, out, _ = run("explain", model, "-p", "sim_card", "-s", "x=1,3")
    assert code == cli.OK
    for part in ("MatMul", "Relu", "native", "2 nodes", "float32[1,3]"):
        assert part in out


def test_plugins_and_devices(run):
    code, out, _ = run("plugins")
    assert code == cli.OK
    for name in PLUGINS:
        assert name in out
    code, out, _ = run("devices", "-p", "sim_card")
    assert code == cli.OK
    assert out.count("SimCard") == 6
    code, out, _ = run("plugins", "sim_card")
    assert code == cli.OK
    assert "defect" in out


def test_doctor_passes_and_fails(run):
    assert run("doctor", "-p", "reference_cpu")[0] == cli.OK
    code, out, _ = run("doctor", "-p", "sim_card", "-o", "fault=device_loss")
    assert code == cli.BAD
    assert "FAIL" in out


BAD_CALLS = [
    (["run", "absent.onnx"], cli.USAGE, "absent.onnx"),
    (["run", "."], cli.USAGE, "folder"),
    (["run", "small.onnx", "-p", "sim_crad"], cli.USAGE, "sim_card"),
    (["run", "small.onnx", "--random", "1"], cli.USAGE, "--shape x="),
    (["run", "small.onnx", "-s", "x=1,3"], cli.USAGE, "--input"),
    (["run", "small.onnx", "-s", "x=one"], cli.USAGE, "x=one"),
    (["run", "small.onnx", "-s", "z=1,3", "--random", "1"], cli.USAGE, "z"),
    (["run", "small.onnx", "-i", "absent.npz"], cli.USAGE, "absent.npz"),
    (["run", "small.onnx", "-i", "small.onnx"], cli.USAGE, "npz"),
    (["run", "small.onnx", "-o", "frob=1", "--random", "1"], cli.USAGE, "frob"),
    (["doctor", "-p", "sim_card", "-o", "defect=mx_scale_cell"], cli.USAGE, "mean mx_scale_ceil"),
    (["run", "small.onnx", "-o", "frob", "--random", "1"], cli.USAGE, "NAME=VALUE"),
    (["run", "small.onnx", "-p", "sim_card", "-o", "count=many"], cli.USAGE, "count"),
    (["run", "small.onnx", "--random", "1", "-s", "x=1,3", "--device", "9"], cli.USAGE, "9"),
    (["run", "small.onnx", "--random", "1", "-s", "x=1,3", "-O", "no/such/a.npz"], 3, "no/such"),
    (["compile", "small.onnx", "-s", "x=1,3", "-O", "no/such/a.accel"], cli.USAGE, "no/such"),
    (["explain", "small.onnx", "-s", "x=1,4"], cli.USAGE, "[1, 4]"),
    (["plugins", "nobody"], cli.USAGE, "nobody"),
    (["run", "small.onnx", "--random", "-1", "-s", "x=1,3"], cli.USAGE, "--random"),
    (["run", "small.onnx", "--random", "1", "-s", "x=1,3", "-s", "x=2,3"], cli.USAGE, "twice"),
    (["doctor", "-p", "sim_card", "-o", "frob=1"], cli.USAGE, "frob"),
    (["doctor", "-o", "frob"], cli.USAGE, "NAME=VALUE"),
]


@pytest.mark.parametrize(("arguments", "code", "named"), BAD_CALLS, ids=lambda part: str(part)[:60])
@pytest.mark.usefixtures("model")
def test_bad_calls_name_the_thing(run, arguments, code, named):
    got, _, err = run(*arguments)
    assert err.startswith("error: ")
    assert named in err
    assert got == code


def test_wrong_feeds_list_the_inputs(model, run, tmp_path):
    feeds = tmp_path / "feeds.npz"
    for arrays, named in [
        ({"y": np.zeros((1, 3), "f4")}, "no input 'y'"),
        ({"x": np.zeros((1, 3), "f8")}, "float64"),
    ]:
        np.savez(feeds, **arrays)
        code, _, err = run("run", model, "-i", feeds, "-s", "x=1,3")
        assert code == cli.USAGE
        assert named in err
        assert "inputs are x" in err or "wants float32[1,3]" in err


@pytest.mark.parametrize("keep", [0, 1, 20, 100])
def test_truncated_model_is_one_message(model, run, keep):
    model.write_bytes(model.read_bytes()[:keep])
    code, _, err = run("run", model, "--random", "1", "-s", "x=1,3")
    assert code == cli.USAGE
    assert "small.onnx" in err


def test_unknown_op_is_named(run, tmp_path):
    path = tmp_path / "odd.onnx"
    node = helper.make_node("Frobnicate", ["x"], ["y"], name="odd_one", domain="com.acme")
    save_model(path, [node], [tensor("x", [1])], [tensor("y", [1])])
    code, _, err = run("run", path, "--random", "1")
    assert code in (cli.USAGE, cli.COULD_NOT_RUN)
    assert "Frobnicate" in err
    assert "odd_one" in err


def test_full_device_gives_the_numbers(model, run):
    code, _, err = run(
        "run", model, "-p", "sim_card", "-o", "memory_bytes=4096", "--random", "1", "-s",
        "x=4096,3",
    )  # fmt: skip
    assert code == cli.COULD_NOT_RUN
    assert "out of device memory" in err
    assert "free" in err


def test_truncated_program_is_refused(model, run, tmp_path):
    run("compile", model, "-s", "x=1,3", "-O", "small.accel")
    program = tmp_path / "small.accel"
    whole = program.read_bytes()
    for keep in (9, len(whole) // 2, len(whole) - 1):
        program.write_bytes(whole[:keep])
        code, _, err = run("run", program, "--random", "1")
        assert code == cli.COULD_NOT_RUN
        assert "error: " in err


def test_random_feeds_too_large_for_the_card_give_the_numbers(model, run):
    rows = 1 << 33
    code, _, err = run("run", model, "--random", "1", "-s", f"x={rows},3")
    assert code == cli.COULD_NOT_RUN
    assert "out of device memory" in err
    assert f"{rows * 3 * 4:,}" in err


@pytest.mark.parametrize("rows", [1 << 62, 10**19])
def test_shapes_that_no_memory_holds_are_refused(model, run, rows):
    code, _, err = run("run", model, "--random", "1", "-s", f"x={rows},3")
    assert code == cli.USAGE
    assert f"{rows * 3 * 4:,}" in err


def test_a_compiled_program_takes_no_shapes_and_is_no_model(model, run):
    run("compile", model, "-s", "x=1,3", "-O", "small.accel")
    for arguments in (
        ["run", "small.accel", "--random", "1", "-s", "x=2,3"],
        ["explain", "small.accel"],
    ):
        code, _, err = run(*arguments)
        assert code == cli.USAGE
        assert "compiled program" in err


@pytest.fixture
def model_with_scale(tmp_path, monkeypatch):
    """y = x * s, of which s is meant to be bound."""
    path = tmp_path / "scaled.onnx"
    nodes = [helper.make_node("Mul", ["x", "s"], ["y"], name="mul")]
    save_model(path, nodes, [tensor("x", [2]), tensor("s", [])], [tensor("y", [2])])
    monkeypatch.chdir(tmp_path)
    return path


@pytest.mark.parametrize("plugin", PLUGINS)
def test_bound_inputs_are_not_fed(model_with_scale, run, plugin):
    np.savez("feeds.npz", x=np.float32([1, 2]))
    more = ["-i", "feeds.npz", "-O", "out.npz"]
    assert run("run", model_with_scale, "-p", plugin, "--bind", "s=1.5", *more)[0] == cli.OK
    assert np.load("out.npz")["y"].tolist() == [1.5, 3.0]
    run("compile", model_with_scale, "-p", plugin, "-b", "s=3", "-O", "bound.accel")
    assert run("run", "bound.accel", "-p", plugin, *more)[0] == cli.OK
    assert np.load("out.npz")["y"].tolist() == [3.0, 6.0]
    code, _, err = run("run", "bound.accel", "-p", plugin, "-b", "s=3", *more)
    assert code == cli.USAGE
    assert "compiled program" in err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["s"], "is not a value"),
        (["s=fast"], "is not a value"),
        (["=3"], "is not a value"),
        (["s=null"], "is not a value"),
        (["s=1", "s=2"], "given twice"),
        (["s=[1,2]"], "does not fit"),
        (["z=1"], "no input 'z'"),
    ],
)
def test_wrong_bindings_are_explained(model_with_scale, run, words, text):
    bindings = [part for word in words for part in ("--bind", word)]
    code, _, err = run("compile", model_with_scale, *bindings)
    assert code != cli.OK
    assert text in " ".join(err.split())


def save_sum(path, kind, result="c"):
    nodes = [helper.make_node("Add", ["a", "b"], [result], name="add")]
    save_model(
        path, nodes, [tensor("a", [4], kind), tensor("b", [4], kind)], [tensor(result, [4], kind)]
    )


@pytest.mark.parametrize("name", ["file", "args", "allow_pickle", "../c", "[bold]c", ":smile:"])
def test_outputs_may_have_any_name(run, tmp_path, name):
    save_sum(tmp_path / "m.onnx", TensorProto.FLOAT, name)
    results = tmp_path / "results.npz"
    code, out, _ = run("run", tmp_path / "m.onnx", "--random", "1", "-O", results)
    assert code == cli.OK
    assert f"{name}: float32[4]" in out
    with np.load(results) as archive:
        assert archive.files == [name]


def test_npz_keeps_formats_that_numpy_has_no_name_for(run, tmp_path):
    """The results of one run are the feeds of the next."""
    save_sum(tmp_path / "m.onnx", TensorProto.BFLOAT16)
    feeds, results = tmp_path / "feeds.npz", tmp_path / "results.npz"
    ones = np.ones(4, ml_dtypes.bfloat16)
    np.savez(feeds, a=ones, b=ones)
    assert run("run", tmp_path / "m.onnx", "-i", feeds, "-O", results)[0] == cli.OK
    with np.load(results) as archive:
        np.savez(feeds, a=archive["c"], b=archive["c"])
    code, out, _ = run("run", tmp_path / "m.onnx", "-i", feeds)
    assert code == cli.OK
    assert "c: bfloat16[4] 4 4 4 4" in out


def test_the_same_results_are_the_same_file(model, run, tmp_path):
    for name in ("a.npz", "b.npz"):
        run("run", model, "--random", "7", "-s", "x=2,3", "-O", name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert b"\x00\x00\x21\x00" in (tmp_path / "a.npz").read_bytes()[:16]  # 1980-01-01, no clock


def test_messages_keep_their_brackets(run):
    """A table takes no text for markup: the place of an error is in brackets."""
    _, out, _ = run("doctor", "-p", "sim_card", "-o", "fault=device_loss")
    assert "[backend" in out


def console_script(*arguments, stdout=subprocess.PIPE):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "accelsdk", *arguments]
    streams = {"stdout": stdout, "stderr": subprocess.PIPE}
    return subprocess.run(command, **streams, text=True, check=False, env=environment)


@pytest.mark.parametrize("command", ["--version", "--help", "plugins"])
def test_a_reader_that_has_gone_ends_it_quietly(command):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:
        done = console_script(command, stdout=pipe)
    assert (done.returncode, done.stderr) == (cli.COULD_NOT_RUN, "")


@pytest.mark.parametrize("command", ["--version", "--help", "plugins"])
def test_output_that_cannot_be_written_is_one_message(command):
    with open("/dev/full", "wb") as full:
        done = console_script(command, stdout=full)
    assert done.stderr == "error: cannot write the output: No space left on device\n"
    assert done.returncode == cli.COULD_NOT_RUN


def test_an_ascii_terminal_is_no_error(model):
    odd = os.fsdecode(b"n\xff.onnx")
    shutil.copy(model, odd)
    done = console_script("run", odd, "--random", "1", "-s", "x=1,3")
    assert (done.returncode, done.stderr) == (cli.OK, "")
