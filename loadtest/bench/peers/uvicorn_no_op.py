"""uvicorn no-op: raw ASGI that reads a POST body and answers `{}`: the physical limit of Python HTTP."""

import sys

from loadtest.bench.peers.no_op import RawNoOp
from loadtest.bench.peers.workers import serve

if __name__ == "__main__":
    serve(RawNoOp(), int(sys.argv[1]))
