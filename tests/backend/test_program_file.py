import hashlib
import json
import os
import struct

import numpy as np
import pytest

from accelsdk.backend import program_file
from accelsdk.backend.program import Program, ProgramHeader, TensorSpec
from accelsdk.backend.program_file import MAGIC, ProgramFile, save
from accelsdk.backend.spool import Spool
from accelsdk.errors import DataLoss, IncompatibleProgram, InvalidArgument, NotFound
from accelsdk.formats import by_name
from accelsdk.graph.graph import Constant
from accelsdk.graph.types import TensorType

PREFIX = struct.Struct("<8sIQ32s")


def made(*contents, memory=1 << 20):
    """A program with one packed constant for each contents, and the spool behind it."""
    spool = Spool(memory)
    specs = tuple(spool.packed(f"c{n}", iter([data])) for n, data in enumerate(contents))
    header = ProgramHeader(
        backend="acme",
        backend_version="1.2",
        api_version=(1, 0),
        target="big",
        target_options={"cores": 4, "fast": True, "mode": "x", "scale": 0.5},
        graph_digest="ab" * 32,
        inputs=(TensorSpec(name="x", type=TensorType(by_name("e4m3"), (2, 3)), bounded=True),),
        outputs=(TensorSpec(name="y", type=TensorType(by_name("int4"), ()), layout="tiled"),),
        aliases=((0, 0),),
        workspace=77,
        attributes={"note": "é"},
    )
    return Program(header=header, code=b"\0code\xff", constants=specs), spool


@pytest.fixture
def path(tmp_path):
    program, spool = made(b"weights" * 1000, b"", b"bias")
    save(tmp_path / "model.accel", program, spool.constants(program))
    return tmp_path / "model.accel"


def test_everything_comes_back(path):
    file = ProgramFile(path)
    program, _ = made(b"weights" * 1000, b"", b"bias")
    assert file.program == program
    assert [c.tobytes() for c in file.constants()] == [b"weights" * 1000, b"", b"bias"]
    assert [c.tobytes() for c in file.constants()] == [b"weights" * 1000, b"", b"bias"]


def test_bytes_are_as_good_as_a_path(path):
    assert ProgramFile(path.read_bytes()).program == ProgramFile(path).program


def test_the_same_program_gives_the_same_file(path, tmp_path):
    program, spool = made(b"weights" * 1000, b"", b"bias")
    save(tmp_path / "again", program, spool.constants(program))
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_graph_constants_are_packed_as_the_device_has_them():
    spool = Spool()
    array = np.arange(-4, 4, dtype=np.int8).astype(by_name("int4").dtype)
    spec = spool.graph_constant(Constant.of("w", array))
    program = Program(header=made()[0].header, code=b"", constants=(spec,))
    (constant,) = spool.constants(program)
    assert (spec.nbytes, str(spec.type)) == (4, "int4[8]")
    assert constant.tobytes() == bytes([0xDC, 0xFE, 0x10, 0x32])
    assert spec.digest == hashlib.sha256(constant.tobytes()).hexdigest()


def test_equal_constants_are_kept_once(tmp_path):
    data = b"z" * 100_000
    program, spool = made(data, data, b"other", data)
    assert [c.tobytes() for c in spool.constants(program)] == [data, data, b"other", data]
    save(tmp_path / "p", program, spool.constants(program))
    assert (tmp_path / "p").stat().st_size < 2 * len(data)
    file = ProgramFile(tmp_path / "p")
    assert [c.tobytes() for c in file.constants()] == [data, data, b"other", data]


def test_large_constants_go_to_disk_and_come_in_chunks():
    data = os.urandom(3_000_000)
    program, spool = made(data, memory=1000)
    (constant,) = spool.constants(program)
    chunks = [bytes(chunk) for chunk in constant.chunks()]
    assert len(chunks) == 3
    assert b"".join(chunks) == data


def test_two_constants_of_one_name_are_refused():
    spool = Spool()
    spool.packed("w", [b"1"])
    with pytest.raises(InvalidArgument, match="named 'w'"):
        spool.packed("w", [b"2"])


@pytest.mark.parametrize("keep", [0, 4, 8, 30, 51, 60, 200, -1])
def test_a_truncated_file_is_data_loss(path, keep):
    data = path.read_bytes()
    path.write_bytes(data[:keep])
    with pytest.raises(DataLoss, match=r"model\.accel"):
        ProgramFile(path)


def test_every_flipped_byte_is_noticed(path):
    data = bytearray(path.read_bytes())
    for position in range(0, len(data), 97):
        changed = bytes([*data[:position], data[position] ^ 0x40, *data[position + 1 :]])
        with pytest.raises((DataLoss, IncompatibleProgram)):
            [constant.tobytes() for constant in ProgramFile(changed).constants()]


def test_extra_bytes_are_noticed(path):
    with pytest.raises(DataLoss, match="should have"):
        ProgramFile(path.read_bytes() + b"\0")


def test_a_newer_format_is_refused_with_the_remedy(path):
    data = path.read_bytes()
    changed = MAGIC + struct.pack("<I", 99) + data[12:]
    with pytest.raises(IncompatibleProgram, match=r"program format 99.*update accelsdk"):
        ProgramFile(changed)


def test_unknown_header_fields_of_a_later_minor_are_ignored(path):
    data = path.read_bytes()
    _, version, length, _ = PREFIX.unpack(data[: PREFIX.size])
    record = json.loads(data[PREFIX.size : PREFIX.size + length])
    record["header"]["later"] = 1
    record["constants"][0]["later"] = 1
    record["header"]["inputs"][0]["later"] = 1
    text = json.dumps(record).encode()
    prefix = PREFIX.pack(MAGIC, version, len(text), hashlib.sha256(text).digest())
    file = ProgramFile(prefix + text + data[PREFIX.size + length :])
    assert file.program.header.backend == "acme"


def test_what_is_no_program_says_so(tmp_path):
    (tmp_path / "x").write_bytes(b"something else entirely")
    with pytest.raises(DataLoss, match="not an accelsdk program"):
        ProgramFile(tmp_path / "x")
    assert not program_file.is_program(tmp_path / "x")
    assert not program_file.is_program(tmp_path / "absent")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(NotFound, match="no program file"):
        ProgramFile(tmp_path / "absent")
    program, spool = made(b"x")
    with pytest.raises(NotFound, match="no folder"):
        save(tmp_path / "absent" / "model", program, spool.constants(program))
    with pytest.raises(InvalidArgument, match="cannot read"):
        ProgramFile(tmp_path)


def test_nothing_half_written_is_left(tmp_path):
    program, _ = made(b"x")

    def broken():
        yield from ()
        raise DataLoss("disk trouble")

    (tmp_path / "model").write_bytes(b"the old one")
    with pytest.raises(DataLoss, match="disk trouble"):
        save(tmp_path / "model", program, broken())
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model").read_bytes() == b"the old one"


def test_a_file_in_the_way_is_told(tmp_path):
    program, spool = made(b"x")
    (tmp_path / "model").mkdir()
    with pytest.raises(InvalidArgument, match="cannot write"):
        save(tmp_path / "model", program, spool.constants(program))
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
