"""rs3d for tests: of rs3d itself, and of programs that speak S3.

    from rs3d.testing import MiniProcess, running_server

    with MiniProcess() as server:                   # the whole daemon, in processes of its own, on free ports
        client = boto3.client("s3", **server.boto3_arguments())

    async with running_server(tmp_path) as server:  # the same application in this process, under Trio
        ...

`MiniProcess` needs no Trio and fits a pytest fixture of any scope. Rank 11.
"""

from rs3d.testing.miniprocess import MiniProcess
from rs3d.testing.server import RunningServer, running_server

__all__ = ["MiniProcess", "RunningServer", "running_server"]
