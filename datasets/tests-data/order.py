#!/usr/bin/env python3
"""Writes the expected orders of `mixture.rs`, computed here independently, from the definitions:

ChaCha8 (Bernstein 2008, 64-bit counter), keyed with SHA-256 of purpose and three little-endian
64-bit numbers; bounded draws after Lemire 2019; Fisher-Yates from the end. Run: python3 order.py
"""

import hashlib
import struct

MASK = 0xFFFFFFFF


def rotate(x, n):
    return ((x << n) & MASK) | (x >> (32 - n))


def quarter(s, a, b, c, d):
    for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        s[x] = (s[x] + s[y]) & MASK
        s[z] = rotate(s[z] ^ s[x], n)


def words(key):
    counter = 0
    while True:
        start = list(struct.unpack("<4I", b"expand 32-byte k") + struct.unpack("<8I", key))
        start += [counter & MASK, counter >> 32, 0, 0]
        s = start[:]
        for _ in range(4):
            for i in range(4):
                quarter(s, i, 4 + i, 8 + i, 12 + i)
            for i in range(4):
                quarter(s, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
        yield from ((a + b) & MASK for a, b in zip(s, start))
        counter += 1


def stream(seed, purpose, source, number):
    key = hashlib.sha256(purpose.encode() + struct.pack("<3Q", seed, source, number)).digest()
    source_of_words = words(key)
    return lambda: next(source_of_words) | next(source_of_words) << 32


def below(bound, draw):
    while True:
        product = draw() * bound
        if product % 2**64 >= 2**64 % bound:
            return product >> 64


def shuffle(items, draw):
    for last in range(len(items) - 1, 0, -1):
        other = below(last + 1, draw)
        items[last], items[other] = items[other], items[last]
    return items


def series(count, seed, source):
    number = 0
    while True:
        yield from shuffle(list(range(count)), stream(seed, "source", source, number))
        number += 1


def epoch(counts, taken, seed, number):
    examples = []
    for source, (count, n) in enumerate(zip(counts, taken)):
        drawn = series(count, seed, source)
        everything = [next(drawn) for _ in range(n * (number + 1))]
        examples += [(source, index) for index in everything[n * number :]]
    return shuffle(examples, stream(seed, "epoch", 0, number))


print("permutation(20, 7, 3):", shuffle(list(range(20)), stream(7, "permutation", 0, 3)))
for number in (0, 1):
    print(f"counts 6, 3, weights 0.5, 2, seed 42, epoch {number}:", epoch([6, 3], [3, 6], 42, number))
