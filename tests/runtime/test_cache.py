import multiprocessing
import os
import time
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import accelsdk
from accelsdk.backend.info import OptionScope, OptionSpec
from accelsdk.errors import InvalidArgument
from accelsdk.runtime import program_cache
from accelsdk.runtime.client import Client
from accelsdk.runtime.program_cache import CacheWarning, ProgramCache
from tests.runtime.plans import OneOp, reference, small_model

X = np.random.default_rng(2).normal(size=(4, 8)).astype(np.float32)


class Counting(OneOp):
    """Counts what it compiles; has an option, and a version of the test's choice."""

    def __init__(self, version="1"):
        super().__init__()
        self.compiled = 0
        self.version = version

    @property
    def info(self):
        option = OptionSpec(name="knob", default=1, help="Turns.", scope=OptionScope.TARGET)
        info = super().info
        return replace(info, version=self.version, options=(*info.options, option))

    def compile(self, graph, target, options, pack):
        self.compiled += 1
        return super().compile(graph, target, options, pack)


@pytest.fixture
def kept(tmp_path):
    return ProgramCache(tmp_path / "cache")


def outputs(backend, kept, model=None, options=None, **more):
    with Client(backend, options, fallback=Client(reference()), cache=kept) as client:
        program = client.compile(model or small_model(), **more)
        got = client.load(program).execute([client.device(0).put(X)]).outputs
        return [buffer.numpy().tobytes() for buffer in got]


def entries(kept):
    return sorted(kept.folder.glob("*.accel"))


def test_the_second_process_compiles_nothing(kept):
    first, second = Counting(), Counting()
    wanted = outputs(first, kept)
    assert outputs(second, kept) == wanted
    assert (first.compiled, second.compiled) == (2, 0)
    assert len(entries(kept)) == 1


def test_a_hit_needs_no_lowering(kept, monkeypatch):
    outputs(Counting(), kept)
    monkeypatch.setattr("accelsdk.compiler.pipeline.plan", None)
    outputs(Counting(), kept)


def model_file(path, scale=1.0, external=False):
    weight = numpy_helper.from_array(np.eye(8, dtype=np.float32) * np.float32(scale), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="m")
    graph = helper.make_graph([node], "g", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    onnx.save(model, path, save_as_external_data=external, location="weights.bin", size_threshold=0)
    return path


def keys(kept, backend, model, **settings):
    client = Client(backend, settings.pop("options", None), cache=kept, **settings)
    with client:
        client.compile(model, input_shapes={"x": (4, 8)})
    return {path.name for path in entries(kept)}


@pytest.mark.parametrize(
    "change",
    [
        lambda kept, path: keys(kept, Counting("2"), path),
        lambda kept, path: keys(kept, Counting(), path, options={"knob": 2}),
        lambda kept, path: keys(kept, Counting(), path, fallback=Client(reference())),
        lambda kept, path: keys(kept, OneOp(), path),
        lambda kept, path: keys(kept, Counting(), model_file(path, 2.0)),
        lambda kept, path: keys(kept, Counting(), path.read_bytes()),
    ],
    ids=["version", "option", "fallback", "backend", "weights", "bytes"],
)
def test_whatever_matters_makes_another_entry(kept, tmp_path, change):
    path = model_file(tmp_path / "m.onnx")
    assert keys(kept, Counting(), path) == keys(kept, Counting(), path)
    assert len(change(kept, path)) == 2


def test_shapes_make_another_entry(kept, tmp_path):
    path = model_file(tmp_path / "m.onnx")
    with Client(Counting(), cache=kept) as client:
        program = client.compile(path, input_shapes={"x": (4, 8)})
        client.compile(path, input_shapes={"x": (5, 8)})
        again = client.compile(path, input_shapes={"x": (4, 8)})
        assert len(entries(kept)) == 2
        assert again.fingerprint == program.fingerprint
        assert again.specialise({"x": (6, 8)}).inputs[0].type.shape == (6, 8)
        assert client.backend.compiled == 3


def test_external_weights_count(kept, tmp_path):
    path = model_file(tmp_path / "m.onnx", external=True)
    before = keys(kept, Counting(), path)
    data = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(bytes(reversed(data)))
    assert len(keys(kept, Counting(), path)) == len(before) + 1


def test_changed_code_counts(kept, tmp_path, monkeypatch):
    before = outputs(Counting(), kept)
    monkeypatch.setattr(program_cache, "_code", lambda module: "somebody edited " + module)
    backend = Counting()
    assert outputs(backend, kept) == before
    assert backend.compiled == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x01"),
        lambda path: path.write_bytes(path.read_bytes()[:8] + b"\x63" + path.read_bytes()[9:]),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["cut", "empty", "weights", "newer", "folder"],
)
def test_a_spoilt_entry_is_a_warning_and_a_recompile(kept, spoil):
    wanted = outputs(Counting(), kept)
    (path,) = entries(kept)
    spoil(path)
    backend = Counting()
    with pytest.warns(CacheWarning):
        assert outputs(backend, kept) == wanted
    assert backend.compiled == 2
    if path.is_file():  # a folder in its place stays a warning
        assert outputs(Counting(), kept) == wanted


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.warns(CacheWarning) as caught:
        outputs(Counting(), ProgramCache(tmp_path / "file" / "cache"))
    assert "cannot be kept" in str(caught[-1].message)


def test_the_least_recently_used_goes_first(kept):
    with Client(Counting(), fallback=Client(reference())) as client:
        program = client.compile(small_model())
    kept.put("a", program)
    size = entries(kept)[0].stat().st_size
    small = ProgramCache(kept.folder, limit=3 * size)
    for name in "bc":
        small.put(name, program)
    now = time.time()
    for age, name in enumerate("cba"):  # a is the oldest
        os.utime(kept.folder / f"{name}.accel", (now - 100 * (age + 1),) * 2)
    assert small.get("a") is not None  # and is used now
    small.put("d", program)
    assert [path.stem for path in entries(kept)] == ["a", "c", "d"]
    ProgramCache(kept.folder, limit=size // 2).put("e", program)
    assert len(entries(kept)) <= 3


def test_what_is_larger_than_the_cache_is_not_kept(tmp_path):
    with Client(Counting(), fallback=Client(reference())) as client:
        program = client.compile(small_model())
    tiny = ProgramCache(tmp_path / "tiny", limit=10)
    tiny.put("a", program)
    assert not tiny.folder.exists()
    with pytest.raises(InvalidArgument):
        ProgramCache(tmp_path, limit=-1)


def test_what_was_never_finished_is_removed_in_time(kept):
    kept.folder.mkdir()
    old, young = kept.folder / ".old.partial", kept.folder / ".young.partial"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 100_000,) * 2)
    outputs(Counting(), kept)
    assert (old.exists(), young.exists()) == (False, True)
    kept.clear()
    assert entries(kept) == []


def test_the_variable_says_where_and_whether(monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELSDK_CACHE", "off")
    assert ProgramCache.of_user() is None
    assert accelsdk.connect("reference_cpu", cache=True).cache is None
    monkeypatch.setenv("ACCELSDK_CACHE", str(tmp_path / "mine"))
    with accelsdk.connect("reference_cpu", cache=True) as client:
        assert client.cache.folder == tmp_path / "mine"
        client.compile(small_model())
    assert len(entries(client.cache)) == 1
    monkeypatch.delenv("ACCELSDK_CACHE")
    assert ProgramCache.of_user().folder.name == "programs"
    assert accelsdk.connect("reference_cpu").cache is None  # unless asked for


def test_a_session_takes_its_program_from_the_cache(kept, tmp_path):
    path = model_file(tmp_path / "m.onnx")
    for _ in range(2):
        with accelsdk.InferenceSession(path, "reference_cpu", cache=kept) as session:
            assert session.run(None, {"x": X})[0].tobytes() == X.tobytes()
    assert len(entries(kept)) == 1


def _compile_often(folder, path):
    for _ in range(3):
        with Client(OneOp(), cache=ProgramCache(folder, limit=1 << 20)) as client:
            for rows in (1, 2, 3):
                program = client.compile(path, input_shapes={"x": (rows, 8)})
                client.load(program)


def test_processes_share_a_cache(tmp_path):
    path = model_file(tmp_path / "m.onnx")
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_compile_often, args=(tmp_path / "cache", path)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    kept = ProgramCache(tmp_path / "cache")
    assert len(entries(kept)) == 3
    assert all(kept.get(entry.stem) is not None for entry in entries(kept))
