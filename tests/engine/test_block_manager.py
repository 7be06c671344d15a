from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from r1.engine.block_manager import BlockManager
from r1.engine.sequence import hash_blocks


def test_allocate_share_release() -> None:
    manager = BlockManager(4)
    blocks = manager.allocate(3)
    assert blocks == [0, 1, 2]
    assert manager.num_free_blocks == 1
    manager.share(blocks[:2])
    manager.release(blocks)
    assert manager.num_free_blocks == 2
    manager.release(blocks[:2])
    assert manager.num_free_blocks == 4


def test_freed_prefix_is_found_until_its_blocks_are_needed() -> None:
    manager = BlockManager(4)
    blocks = manager.allocate(2)
    manager.register(blocks[0], b"a")
    manager.register(blocks[1], b"ab")
    manager.release(blocks)
    assert manager.match_prefix([b"a", b"ab", b"abc"]) == blocks
    assert manager.num_free_among(blocks) == 2
    # Blocks without a hash go first, then the end of the prefix, then its start.
    assert manager.allocate(2) == [2, 3]
    assert manager.allocate(1) == [blocks[1]]
    assert manager.match_prefix([b"a", b"ab"]) == [blocks[0]]
    assert manager.allocate(1) == [blocks[0]]
    assert manager.match_prefix([b"a"]) == []
    assert manager.num_cached_blocks == 0


def test_of_two_equal_blocks_the_first_stays_known() -> None:
    manager = BlockManager(4)
    first, second = manager.allocate(2)
    manager.register(first, b"a")
    manager.register(second, b"a")
    assert manager.match_prefix([b"a"]) == [first]
    manager.release([second])
    assert manager.match_prefix([b"a"]) == [first]


def test_reset_forgets_blocks_in_use_too() -> None:
    manager = BlockManager(2)
    blocks = manager.allocate(1)
    manager.register(blocks[0], b"a")
    manager.reset_prefix_cache()
    assert manager.match_prefix([b"a"]) == []
    manager.release(blocks)
    assert manager.num_free_blocks == 2


def test_block_hashes_are_chained_and_stable() -> None:
    hashes = hash_blocks(np.arange(10), 4)
    assert len(hashes) == 2
    assert hashes[0] == hash_blocks(np.arange(4), 4)[0]
    # The same tokens after another first block are another prefix.
    assert hash_blocks(np.array([9, 9, 9, 9, 4, 5, 6, 7]), 4)[1] != hashes[1]
    assert hashes[0].hex() == "61abbbbadcb5a29f38974c1405255595"


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("arsgm"), st.integers(0, 7)), max_size=60))
def test_invariants(operations: list[tuple[str, int]]) -> None:
    """Free and used blocks partition the pool; counts equal the references that we hold."""
    manager = BlockManager(6)
    held: list[list[int]] = []
    for step, (operation, number) in enumerate(operations):
        if operation == "a" and number <= manager.num_free_blocks:
            held.append(manager.allocate(number))
        elif operation == "r" and held:
            manager.release(held.pop(number % len(held)))
        elif operation == "s" and held:
            copy = list(held[number % len(held)])
            manager.share(copy)
            held.append(copy)
        elif operation == "g" and held:
            for index, block in enumerate(held[number % len(held)]):
                manager.register(block, bytes([step % 3, index]))
        elif operation == "m":
            match = manager.match_prefix([bytes([number % 3, i]) for i in range(number)])
            assert len(set(match)) == len(match)
            manager.share(match)
            held.append(match)
        counts = [sum(blocks.count(block) for blocks in held) for block in range(6)]
        assert manager.ref_counts == counts
        assert manager.num_free_blocks == counts.count(0)
    for blocks in held:
        manager.release(blocks)
    assert sorted(manager.allocate(6)) == list(range(6))
    assert manager.num_cached_blocks == 0
