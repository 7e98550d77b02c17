#!/usr/bin/env python3
"""llama.cpp's own HTTP server, from the wheel `xllamacpp`, for the `real` test ring.

Usage: llama_server.py MODEL.gguf PORT [ADAPTER.gguf ...]

Port 0 takes a free one. Prints `listening ADDRESS` once it answers, and runs until it is killed. Several adapters are
switched on and off by each request.
"""

import sys
import time

import xllamacpp


def main() -> None:
    model, port, *adapters = sys.argv[1:]
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.port = int(port)
    parameters.n_ctx = 512
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = 2
    parameters.warmup = False
    parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter, 1.0) for adapter in adapters]
    server = xllamacpp.Server(parameters)
    print("listening", server.listening_address, flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
