from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from forethought.router.upstream.patience import Lines


def says(chunks: list[bytes]) -> bool:
    lines = Lines()
    said = [lines.say_something(chunk) for chunk in chunks]
    return any(said)


@given(
    comments=st.lists(st.sampled_from([b": ping\n\n", b":\r\n\r\n", b"\n", b":a:b data: x\r"])),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
def test_comments_say_nothing_however_they_are_cut(comments: list[bytes], cuts: list[int]) -> None:
    raw = b"".join(comments)
    places = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    pieces = [raw[a:b] for a, b in itertools.pairwise(places)]
    assert not says(pieces)
    assert says([*pieces, b"\n", b"d", b"ata: {}\n\n"])
