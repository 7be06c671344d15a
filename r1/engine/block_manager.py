"""Which blocks of the KV cache are free, shared, or kept for a prompt seen before.

The method is vLLM's (Kwon et al. 2023, "Efficient Memory Management for Large
Language Model Serving with PagedAttention"): reference counts, and a table from
the hash of a prefix to the block that holds its keys and values.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class BlockManager:
    """Reference counts of `num_blocks` blocks, and the prefix cache over them.

    A block with count 0 is free. A free block that still has a hash can be taken
    back by `match_prefix` and `share` until `allocate` needs it: blocks without a
    hash go first, then the one freed longest ago.
    """

    def __init__(self, num_blocks: int) -> None:
        assert num_blocks >= 1
        self.num_blocks = num_blocks
        self.ref_counts = [0] * num_blocks
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))
        self._block_of_hash: dict[bytes, int] = {}
        self._hash_of_block: dict[int, bytes] = {}

    @property
    def num_free_blocks(self) -> int:
        """Blocks that `allocate` can give, the ones kept for a prefix included."""
        return len(self._free)

    @property
    def num_cached_blocks(self) -> int:
        """Blocks, in use or free, that a later prompt can find by hash."""
        return len(self._block_of_hash)

    def allocate(self, count: int) -> list[int]:
        """Take `count` free blocks, each with a reference count of 1."""
        assert count <= len(self._free), "the scheduler must check num_free_blocks first"
        block_ids = []
        for _ in range(count):
            block_id, _none = self._free.popitem(last=False)
            self._forget(block_id)
            self.ref_counts[block_id] = 1
            block_ids.append(block_id)
        return block_ids

    def share(self, block_ids: Iterable[int]) -> None:
        """Add one reference to each block (free ones leave the free list)."""
        for block_id in block_ids:
            if self.ref_counts[block_id] == 0:
                del self._free[block_id]
            self.ref_counts[block_id] += 1

    def release(self, block_ids: Sequence[int]) -> None:
        """Drop one reference to each block of a table, given in the order of the table.

        Later blocks become free first: a prefix is worth more than what follows it.
        """
        for block_id in reversed(block_ids):
            assert self.ref_counts[block_id] > 0, f"block {block_id} released twice"
            self.ref_counts[block_id] -= 1
            if self.ref_counts[block_id] > 0:
                continue
            self._free[block_id] = None
            if block_id not in self._hash_of_block:
                self._free.move_to_end(block_id, last=False)

    def match_prefix(self, block_hashes: Iterable[bytes]) -> list[int]:
        """The blocks of the longest known prefix; take them with `share`."""
        block_ids = []
        for block_hash in block_hashes:
            block_id = self._block_of_hash.get(block_hash)
            if block_id is None:
                break
            block_ids.append(block_id)
        return block_ids

    def num_free_among(self, block_ids: Iterable[int]) -> int:
        """How many of these blocks `share` would take off the free list."""
        return sum(self.ref_counts[block_id] == 0 for block_id in block_ids)

    def register(self, block_id: int, block_hash: bytes) -> None:
        """Make a full block findable; of two equal blocks the first one stays known."""
        assert self.ref_counts[block_id] > 0
        if block_hash in self._block_of_hash or block_id in self._hash_of_block:
            return
        self._block_of_hash[block_hash] = block_id
        self._hash_of_block[block_id] = block_hash

    def reset_prefix_cache(self) -> None:
        """Forget every hash: the weights, and so the keys and values, have changed."""
        self._block_of_hash.clear()
        self._hash_of_block.clear()
        self._free = OrderedDict.fromkeys(sorted(self._free))

    def _forget(self, block_id: int) -> None:
        block_hash = self._hash_of_block.pop(block_id, None)
        if block_hash is not None:
            del self._block_of_hash[block_hash]
