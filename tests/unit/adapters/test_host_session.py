from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from interlock.adapters.hosts._session import MarkedLines

MARK = b"0123456789abcdef0123456789abcdef"
NOISE = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"", b"\n", b"done -\n", b"failed", MARK, MARK[:-1], MARK[:16] * 5, b"\x1b[33m", b"x" * 700]),
)
LINES = st.sampled_from(
    ["done - ", "failed 1.0.0-0123456789ab why", "step switch", "tail ", "release a {}", "tail \u00e4"]
)


@given(st.lists(st.tuples(NOISE, LINES)), NOISE, st.integers(1, 50))
@example([(MARK, "done -")], b"", 7)
def test_lines_with_the_mark_are_found_between_any_noise(said: list[tuple[bytes, str]], rest: bytes, size: int) -> None:
    output = b"".join(noise + MARK + b" " + line.encode() + b"\n" for noise, line in said) + rest
    lines = MarkedLines(MARK)
    found: list[str] = []
    for start in range(0, len(output), size):
        lines.feed(output[start : start + size])
        while (line := lines.pop()) is not None:
            found.append(line)
    assert found == [line for _, line in said]
    assert lines.has_begun == bool(said)
    assert lines.noise == sum(len(noise) for noise, _ in said) + len(rest)
    assert lines.printed == (b"".join(noise for noise, _ in said) + rest)[:500]


def test_what_is_printed_without_end_is_not_kept() -> None:
    lines = MarkedLines(MARK)
    for _ in range(1000):
        lines.feed(b"noise" * 1000)
    assert lines.noise == 5_000_000
    assert len(lines.printed) == 500
    lines.feed(MARK + b" done -\n")
    assert lines.pop() == "done -"
