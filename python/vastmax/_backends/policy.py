# SPDX-License-Identifier: Apache-2.0
"""Numbers that steer the Python layer. They may change speed, never an answer."""

# device="auto" takes a GPU where it should need at most this part of the time of the CPU, copies counted. What each
# should need is measured (`tuned`); until then, all stays on the CPU.
CLEAR_WIN = 0.8

# NumPy data goes to a GPU in chunks of at most so many bytes, inputs and results together, two in flight: enough that a
# launch and the start of two copies (some 10 us each) are small beside a copy at 25 to 55 GB/s (PCIe 4 and 5).
CHUNK_BYTES = 32 << 20
LANES = 2
SHARE_OF_FREE_MEMORY = 0.5  # for all lanes together: the rest is for workspace and for others

# Bytes of logits of another dtype that are converted at once, or one row: they stay in second-level cache.
CONVERTED_BYTES = 1 << 20

# Classes that are a whole number of blocks in every dtype, and elements of a piece of what may be larger than memory.
BLOCK = 4096
PIECE = 1 << 24

# Tiles of logits that a matrix product makes: rows, bytes, and classes at most; bytes between their rows, lest these
# lie a power of two apart, which costs a product up to 8 %; docs/development/measured.md.
TILE_ROWS = 1024
TILE_BYTES = 16 << 20
TILE_WIDTH = 16384
TILE_GAP = 64

# Logits that are kept for their gradients, and rows that are worth more than keeping all of theirs.
GRADIENT_BYTES = 256 << 20
LEAST_GRADIENT_ROWS = 256
