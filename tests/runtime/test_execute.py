import numpy as np
import pytest

from accelsdk.errors import FailedPrecondition, InvalidArgument, NotFound
from accelsdk.runtime.executable import ExecuteOptions
from tests.runtime.fakes import BYTES, FakeDriver, N, QueueDriver, Rig


def test_write_execute_read(rig):
    x = rig.put(1, 2, 3)
    result = rig.load().execute([x])
    assert result.outputs[0].numpy().tolist() == [2, 3, 4, 2, 3, 4, 2, 3]
    assert result.complete.is_ready()
    assert result.complete.error() is None


def test_chain_of_programs_without_a_wait_between(rig):
    loaded, value = rig.load(), rig.put(0)
    for _ in range(50):
        (value,) = loaded.execute([value]).outputs
    assert value.numpy().tolist() == [50] * N


def test_execute_into_given_outputs(rig):
    x, y = rig.put(7), rig.empty()
    result = rig.load().execute([x], [y])
    assert result.outputs == (y,)
    assert y.numpy().tolist() == [8] * N


def test_blocking_execute_is_complete(rig):
    result = rig.load().execute([rig.put(7)], options=ExecuteOptions(block=True))
    assert result.complete.is_ready()


@pytest.mark.parametrize("arguments", [0, 2])
def test_wrong_number_of_arguments_lists_the_inputs(rig, arguments):
    loaded = rig.load()
    with pytest.raises(InvalidArgument, match=r"1 inputs, . given.*x: uint8\[8\]"):
        loaded.execute([rig.put(1)] * arguments)


def test_wrong_type_names_the_input(rig):
    buffer = rig.device.put(np.zeros(3, np.float32))
    with pytest.raises(InvalidArgument, match=r"'x' is float32\[3\].*uint8\[8\]"):
        rig.load().execute([buffer])


def test_buffer_of_another_device_is_refused(rig):
    with pytest.raises(InvalidArgument, match="lies on device fake-1"):
        rig.load().execute([rig.put(1, device=rig.other)])


def test_output_over_an_input_is_refused(rig):
    x = rig.put(1)
    with pytest.raises(InvalidArgument, match="shares memory with input 'x'"):
        rig.load().execute([x], [x])


def test_deleted_program_is_refused(rig):
    loaded = rig.load()
    loaded.delete()
    with pytest.raises(FailedPrecondition, match="program was deleted"):
        loaded.execute([rig.put(1)])


def test_profile_has_the_nodes(rig):
    options = ExecuteOptions(profile=True, block=True)
    result = rig.load().execute([rig.put(1)], options=options)
    assert [node.node for node in result.profile] == ["add"]


def test_event_times_are_in_order(rig):
    event = rig.load().execute([rig.put(1)], options=ExecuteOptions(block=True)).complete
    assert 0 < event.started <= event.finished


# -- bindings ------------------------------------------------------------------------------


def test_binding_runs_again_and_again(rig):
    binding = rig.load().bind()
    binding.bind_input("x", np.full(N, 3, np.uint8))
    for value in (3, 3, 4, 4):
        binding.bind_input("x", np.full(N, value, np.uint8))
        assert binding.run().outputs[0].numpy().tolist() == [value + 1] * N


def test_binding_to_given_buffers(rig):
    x, y = rig.put(5), rig.empty()
    binding = rig.load().bind()
    binding.bind_input("x", x)
    binding.bind_output("y", y)
    for value in (5, 6):
        x.copy_from_host(np.full(N, value, np.uint8))
        binding.run()
        assert y.numpy().tolist() == [value + 1] * N


def test_binding_waits_for_asynchronous_writers(rig):
    x, stream = rig.put(0), rig.device.create_stream()
    binding = rig.load().bind()
    binding.bind_input("x", x)
    for value in range(5):
        stream.write(x, np.full(N, value, np.uint8))
        assert binding.run().outputs[0].numpy().tolist() == [value + 1] * N


def test_binding_names_what_is_missing(rig):
    with pytest.raises(InvalidArgument, match="not bound: input 'x'"):
        rig.load().bind().run()


def test_binding_names_what_does_not_exist(rig):
    binding = rig.load().bind()
    with pytest.raises(NotFound, match=r"no input 'z'.*x: uint8"):
        binding.bind_input("z", rig.empty())
    with pytest.raises(NotFound, match=r"no output 'x'.*y: uint8"):
        binding.bind_output("x")


def test_binding_refuses_a_wrong_array(rig):
    with pytest.raises(InvalidArgument, match=r"'x' wants uint8\[8\], got float32\[2\]"):
        rig.load().bind().bind_input("x", np.zeros(2, np.float32))


def test_binding_notices_a_deleted_buffer(rig):
    x = rig.put(1)
    binding = rig.load().bind()
    binding.bind_input("x", x)
    binding.run()
    binding.run()
    x.delete()
    with pytest.raises(FailedPrecondition, match="deleted"):
        binding.run()


def test_binding_without_blocking(rig):
    binding = rig.load().bind()
    binding.bind_input("x", rig.put(1))
    result = binding.run(ExecuteOptions())
    assert result.wait().outputs[0].numpy().tolist() == [2] * N


def test_types_are_values(rig):
    assert rig.empty().type == BYTES


@pytest.mark.parametrize("kind", ["sync", "on_wait"])
def test_an_interrupted_wait_cancels_what_it_ran_and_hangs_nobody(kind, monkeypatch):
    """Ctrl-C arrives inside the driver, on the thread that drives it."""
    made = Rig(kind)
    loaded, x = made.load(), made.put(1)

    def interrupted(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        driver, method = (FakeDriver, "execute") if kind == "sync" else (QueueDriver, "poll")
        patched.setattr(driver, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            loaded.execute([x], options=ExecuteOptions(block=True))
    assert not made.device.live
    assert loaded.execute([x]).outputs[0].numpy().tolist() == [2] * N
    made.client.close()
