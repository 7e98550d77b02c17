#!/usr/bin/env python3
"""llama.cpp's own HTTP server, from the wheel `xllamacpp`, for the `real` test ring.

Usage: llama_server.py MODEL.gguf PORT [ADAPTER.gguf]

Prints `listening ADDRESS` once it answers, and runs until it is killed.
"""

import sys
import time

import xllamacpp


def main() -> None:
    model, port, *adapter = sys.argv[1:]
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.port = int(port)
    parameters.n_ctx = 512
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = 2
    parameters.warmup = False
    if adapter:
        parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter[0], 1.0)]
    server = xllamacpp.Server(parameters)
    print("listening", server.listening_address, flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
