#!/usr/bin/env python3
"""The matrix-product rate of PyTorch (MKL or OpenBLAS) on the model's own shapes; prints one JSON object.

For 4 x 512 tokens each frozen matrix of a block is used forward (x Wt) and backward (g W). `rate` is the FLOP of all
of them over the sum of their median times, in GFLOP/s: how fast the products alone can go.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

os.environ.update(CUDA_VISIBLE_DEVICES="")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="the model's config.json")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    config = json.loads(arguments.config.read_text(encoding="utf-8"))
    hidden, intermediate = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    # Output size, input size, how often in a block.
    matrices = [(queries, hidden, 1), (keys, hidden, 2), (hidden, queries, 1), (intermediate, hidden, 2),
                (hidden, intermediate, 1)]
    shapes, flop_sum, median_sum, best_sum = [], 0.0, 0.0, 0.0
    for rows, columns, times in matrices:
        x, weight, gradient = (torch.randn(arguments.tokens, columns), torch.randn(rows, columns),
                               torch.randn(arguments.tokens, rows))
        forward, backward = torch.empty(arguments.tokens, rows), torch.empty(arguments.tokens, columns)
        flop = 2 * arguments.tokens * rows * columns
        for name, product in (("forward", lambda: torch.mm(x, weight.t(), out=forward)),
                              ("backward", lambda: torch.mm(gradient, weight, out=backward))):
            seconds = []
            for number in range(arguments.repeat + 3):
                started = time.perf_counter()
                product()
                if number >= 3:
                    seconds.append(time.perf_counter() - started)
            median, best = statistics.median(seconds), min(seconds)
            shapes.append({"product": f"{name} {arguments.tokens}x{columns}x{rows}", "median": flop / median / 1e9,
                           "best": flop / best / 1e9})
            flop_sum, median_sum, best_sum = flop_sum + times * flop, median_sum + times * median, best_sum + times * best
    print(json.dumps({"rate": flop_sum / median_sum / 1e9, "best": flop_sum / best_sum / 1e9, "shapes": shapes}))


if __name__ == "__main__":
    main()
