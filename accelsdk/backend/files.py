"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from accelsdk.errors import FailedPrecondition, InvalidArgument, NotFound

#: Bytes kept in memory on the way to what is no file; more goes to disk.
_SPOOLED = 1 << 24


@contextmanager
def written(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Opens a file to write, which takes its place only when the ``with`` block has succeeded.

    Until then it has another name in the same folder; if the block raises, nothing is left
    and an older file stays as it was. A symbolic link stays one. What is no file (a pipe, a
    device such as ``/dev/null``) is never replaced: it gets the bytes at the end.

    Args:
        path: Where to.

    Yields:
        The open file, which cannot be read.

    Raises:
        NotFound: The folder does not exist.
        InvalidArgument: The file cannot be written there.
        FailedPrecondition: The disk is full or broken.
    """
    path = Path(os.path.realpath(path))
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            with tempfile.SpooledTemporaryFile(_SPOOLED) as spool:  # writers seek, pipes do not
                yield spool
                spool.seek(0)
                with path.open("wb") as file:
                    shutil.copyfileobj(spool, file)
            return
        # Short and random: a name as long as the file system allows can be written too.
        temporary = path.with_name(f".{secrets.token_hex(6)}.partial")
        try:
            with temporary.open("xb") as file:
                yield file
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileNotFoundError as error:
        raise NotFound(
            f"no folder {str(path.parent)!r} to write {path.name!r} to", remedy="make it first"
        ) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
        raise (FailedPrecondition if full else InvalidArgument)(
            f"cannot write {str(path)!r}: {error.strerror or error}",
            remedy="choose another place, or free some space",
        ) from error
