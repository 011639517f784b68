import sys
from pathlib import Path

# The zoo and agreement are shared with the benchmarks, and are no package.
sys.path.insert(0, str(Path(__file__).parent))


def pytest_collection_modifyitems(items):
    """Puts all tests of one model together: what it takes to make and judge it is kept."""
    import zoo

    order = {id(model): index for index, model in enumerate(zoo.EVERY)}

    def place(item):
        call = getattr(item, "callspec", None)
        return order.get(id(call.params.get("model")), -1) if call is not None else -1

    here = Path(__file__).parent
    own = [item for item in items if here in item.path.parents]
    slots = [index for index, item in enumerate(items) if here in item.path.parents]
    for index, item in zip(slots, sorted(own, key=place), strict=True):
        items[index] = item
