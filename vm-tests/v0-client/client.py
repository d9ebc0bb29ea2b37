"""A client of v0 that knows the node by the description of its API alone.

It has its own .proto files beside it, gRPC's own TLS library, and no line in common with the
project's SDKs. It reads the client configuration that it is given, drives the node through the life
of a cell, and exits with 0 when everything was as described.

Usage: client.py CONFIGURATION
"""

import importlib
import importlib.resources
import pathlib
import sys
import tempfile
import time
import tomllib

import grpc
from grpc_tools import protoc

# What a client of v0 asks for.
SERVER_NAME = "server.unsafe.aurae.io"
# How long any call may take, in seconds: the node may be emulated.
LIMIT = 60
CELL = "v0-client"


def compile_protos():
    """Compiles the .proto files beside this file and imports what comes of them."""
    source = pathlib.Path(__file__).parent / "proto"
    include = str(importlib.resources.files("grpc_tools") / "_proto")
    files = [str(path) for path in sorted(source.glob("*.proto"))]
    with tempfile.TemporaryDirectory(prefix="aurae-v0-client-") as out:
        arguments = ["protoc", f"-I{source}", f"-I{include}", f"--python_out={out}", f"--grpc_python_out={out}"]
        if protoc.main(arguments + files) != 0:
            sys.exit("the .proto files do not compile")
        sys.path.insert(0, out)
        names = ["cells", "discovery", "observe"]
        return [importlib.import_module(name + suffix) for suffix in ("_pb2", "_pb2_grpc") for name in names]


def connect(path):
    """Opens a channel as the configuration says."""
    configuration = tomllib.loads(path.read_text())

    def read(key):
        return (path.parent / configuration["auth"][key]).read_bytes()

    credentials = grpc.ssl_channel_credentials(
        root_certificates=read("ca_crt"), private_key=read("client_key"), certificate_chain=read("client_crt")
    )
    options = [("grpc.ssl_target_name_override", SERVER_NAME)]
    return grpc.secure_channel(configuration["system"]["socket"], credentials, options)


def expect(what, condition):
    """Ends with the name of what is not as described."""
    print(f"v0 client: {what}: {'ok' if condition else 'FAILED'}", flush=True)
    if not condition:
        sys.exit(1)


def refused(what, code, call):
    """Expects a call to be refused with a code."""
    try:
        call()
    except grpc.RpcError as error:
        print(f"v0 client: {what}: {error.details()}")
        expect(f"{what} answers {code.name}", error.code() == code)
        return error.details()
    expect(f"{what} is refused", False)
    return ""


def main():
    cells_pb, discovery_pb, observe_pb, cells_rpc, discovery_rpc, observe_rpc = compile_protos()
    channel = connect(pathlib.Path(sys.argv[1]))
    cells = cells_rpc.CellServiceStub(channel)
    discovery = discovery_rpc.DiscoveryServiceStub(channel)
    observe = observe_rpc.ObserveServiceStub(channel)

    answer = discovery.Discover(discovery_pb.DiscoverRequest(), timeout=LIMIT)
    expect("discover", answer.healthy and answer.version)

    # v0 clients send controllers that are present and empty.
    cell = cells_pb.Cell(
        name=CELL,
        cpu=cells_pb.CpuController(weight=200, max=50000, period=100000),
        cpuset=cells_pb.CpusetController(),
        memory=cells_pb.MemoryController(max=64 * 1024 * 1024),
    )
    request = cells_pb.CellServiceAllocateRequest(cell=cell)
    answer = cells.Allocate(request, timeout=LIMIT)
    expect("allocate", answer.cell_name == CELL and answer.cgroup_v2)
    refused("allocate again", grpc.StatusCode.ALREADY_EXISTS, lambda: cells.Allocate(request, timeout=LIMIT))
    text = refused(
        "allocate without a name",
        grpc.StatusCode.FAILED_PRECONDITION,
        lambda: cells.Allocate(cells_pb.CellServiceAllocateRequest(cell=cells_pb.Cell()), timeout=LIMIT),
    )
    expect("the text names field and rule", text == "Field = cell.name; Required")
    orphan = cells_pb.CellServiceAllocateRequest(cell=cells_pb.Cell(name="missing/child"))
    text = refused(
        "allocate without its parent",
        grpc.StatusCode.NOT_FOUND,
        lambda: cells.Allocate(orphan, timeout=LIMIT),
    )
    expect("the text names the missing one", "missing" in text)

    listed = cells.List(cells_pb.CellServiceListRequest(), timeout=LIMIT).cells
    found = [node.cell for node in listed if node.cell.name == CELL]
    expect("list", len(found) == 1)
    expect("limits are read back", found[0].cpu.max == 50000 and found[0].memory.max == 64 * 1024 * 1024)

    started = cells.Start(
        cells_pb.CellServiceStartRequest(
            cell_name=CELL,
            executable=cells_pb.Executable(name="talk", command="echo hello; echo oops >&2; exec sleep 1000"),
        ),
        timeout=LIMIT,
    )
    expect("start", started.pid > 0 and started.uid == 0 and started.gid == 0)

    logs = observe.GetSubProcessStream(
        observe_pb.GetSubProcessStreamRequest(
            channel_type=observe_pb.LOG_CHANNEL_TYPE_STDOUT, process_id=started.pid
        ),
        timeout=LIMIT,
    )
    item = next(logs).item
    expect("logs", (item.channel, item.line) == ("talk::stdout", "hello"))
    expect("logs have a time in seconds", abs(item.timestamp - time.time()) < 24 * 3600)

    cells.Stop(cells_pb.CellServiceStopRequest(cell_name=CELL, executable_name="talk"), timeout=LIMIT)
    expect("stop ends the stream of logs", list(logs) == [])
    refused(
        "stop of what was never started",
        grpc.StatusCode.NOT_FOUND,
        lambda: cells.Stop(
            cells_pb.CellServiceStopRequest(cell_name=CELL, executable_name="never"), timeout=LIMIT
        ),
    )

    # Without a cell's name: in the daemon that answers, itself.
    own = cells_pb.Executable(name="own", command="exec sleep 1000")
    started = cells.Start(cells_pb.CellServiceStartRequest(executable=own), timeout=LIMIT)
    expect("start in the node itself", started.pid > 0)
    cells.Stop(cells_pb.CellServiceStopRequest(executable_name="own"), timeout=LIMIT)

    daemon_log = observe.GetAuraeDaemonLogStream(observe_pb.GetAuraeDaemonLogStreamRequest(), timeout=LIMIT)
    expect("the daemon's log", next(daemon_log).item.line)
    daemon_log.cancel()

    free = cells_pb.CellServiceFreeRequest(cell_name=CELL)
    cells.Free(free, timeout=LIMIT)
    refused("free again", grpc.StatusCode.NOT_FOUND, lambda: cells.Free(free, timeout=LIMIT))
    listed = cells.List(cells_pb.CellServiceListRequest(), timeout=LIMIT).cells
    expect("free", CELL not in [node.cell.name for node in listed])


if __name__ == "__main__":
    main()
