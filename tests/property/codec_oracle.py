"""What codecs do, one value and one bit at a time. Shares nothing with the package."""

from __future__ import annotations

from itertools import product


def width(value: int, signed: bool) -> int:
    if signed:
        return max(1, (value if value >= 0 else -value - 1).bit_length()) + 1
    return max(1, value.bit_length())


def runs(shape: tuple[int, ...], group_size: int) -> list[list[tuple[int, ...]]]:
    """Indices of the values of each run, in container order."""
    if len(shape) == 4 and shape[3] == 1:  # depthwise: over filters
        filters, height, width, _ = shape
        return [[(k, y, x, 0) for k in range(filters)] for y in range(height) for x in range(width)]
    inner = 1
    if len(shape) >= 3 and shape[-1] < group_size:  # a row of positions and channels
        inner = 2
    return [
        [(*outer, *rest) for rest in product(*(range(n) for n in shape[-inner:]))]
        for outer in product(*(range(n) for n in shape[:-inner]))
    ]


def groups(x, group_size: int) -> list[list[int]]:
    """Values of each group, in container order."""
    values = x.values.tolist()

    def at(index: tuple[int, ...]) -> int:
        item = values
        for axis in index:
            item = item[axis]
        return item

    return [
        [at(index) for index in run[start : start + group_size]]
        for run in runs(x.shape, group_size)
        for start in range(0, len(run), group_size)
    ]


def plain_bits(group: list[int], bits: int, signed: bool) -> int:
    widest = max(width(value, signed) for value in group)
    return {8: 3, 16: 4}[bits] + widest * len(group)


def zeros_bits(group: list[int], bits: int, signed: bool) -> int:
    widest = max(width(value, signed) for value in group)
    return {8: 3, 16: 4}[bits] + len(group) + widest * sum(value != 0 for value in group)


def dpred_bits(x, group_size: int, mode: str) -> tuple[int, list[int]]:
    """(header, bits of each group)."""
    plain = [plain_bits(group, x.bits, x.signed) for group in groups(x, group_size)]
    zeros = [zeros_bits(group, x.bits, x.signed) for group in groups(x, group_size)]
    if mode == "plain":
        return 0, plain
    if mode == "zeros":
        return 0, zeros
    if mode == "offline":
        return 1, min(plain, zeros, key=sum)
    return 0, [1 + min(pair) for pair in zip(plain, zeros, strict=True)]


def zero_rle_bits(x, group_size: int, run_bits: int) -> list[int]:
    """Bits of the tokens of each group; zeros are counted one by one."""
    longest = 2**run_bits - 1
    found, zeros = [], 0
    for group in groups(x, group_size):
        tokens = 0
        for value in group:
            if value == 0:
                zeros += 1
                continue
            while zeros > longest:
                tokens += 1
                zeros -= longest + 1
            tokens += 1
            zeros = 0
        found.append(tokens * (run_bits + x.bits))
    return found


def bitmap_bits(x, group_size: int) -> list[int]:
    """A flag a value, and the non-zero values."""
    return [sum(1 + x.bits * (value != 0) for value in group) for group in groups(x, group_size)]


def bdi_bits(x, group_size: int) -> list[int]:
    """The smallest of: zeros, values or differences to the first one in a class, full width."""
    found = []
    for group in groups(x, group_size):
        if not any(group):
            found.append(12)
            continue
        sizes = [4 + x.bits * len(group)]
        for bits in (2, 4, 8):
            low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
            fits = max(width(value, x.signed) for value in group) <= bits
            if fits or all(low <= value - group[0] <= high for value in group):
                sizes.append(4 + x.bits + bits * len(group))
        found.append(min(sizes))
    return found


def decode_bitmap(encoded, group_size: int) -> list[list[int]]:
    """The values of each group, in container order."""
    bits = Bits(encoded.payload, encoded.size_bits)
    found = []
    for run in runs(encoded.shape, group_size):
        for start in range(0, len(run), group_size):
            flags = [bits.take(1) for _ in range(min(group_size, len(run) - start))]
            found.append(
                [
                    two_s_complement(bits.take(encoded.bits), encoded.bits, encoded.signed) if flag else 0
                    for flag in flags
                ]
            )
    assert bits.left == 0
    return found


def decode_bdi(encoded, group_size: int) -> list[list[int]]:
    """The values of each group, in container order."""
    bits = Bits(encoded.payload, encoded.size_bits)
    found = []
    for run in runs(encoded.shape, group_size):
        for start in range(0, len(run), group_size):
            size, tag = min(group_size, len(run) - start), bits.take(4)
            if tag == 7:
                assert bits.take(8) == 0
                found.append([0] * size)
                continue
            wide = encoded.bits if tag == 6 else (2, 4, 8)[tag // 2]
            base = two_s_complement(bits.take(encoded.bits), encoded.bits, encoded.signed) if tag < 6 else 0
            signed = encoded.signed or (tag < 6 and tag % 2 == 1)
            found.append([base + two_s_complement(bits.take(wide), wide, signed) for _ in range(size)])
    assert bits.left == 0
    return found


def apack_table(bits, width: int) -> list[tuple[int, int, int, int]]:
    """(first pattern, bits of an offset, counts below, count) of the 16 ranges at a container's head."""
    rows = [(bits.take(width), bits.take(width.bit_length()), bits.take(10)) for _ in range(16)]
    ends = [row[2] for row in rows[1:]] + [1023]
    return [(*row, end - row[2]) for row, end in zip(rows, ends, strict=True)]


def apack_steps(values: list[int], table, width: int) -> tuple[list[int], int, int]:
    """(bits that leave the coder with each value, the code as one number, its bits). One value at a time."""
    low, span, out, left = 0, 2**16 - 1, 0, []
    for value in values:
        pattern = value % 2**width
        first, _, below, count = [row for row in table if row[0] <= pattern][-1]
        assert count > 0 and first <= pattern
        low += (span * below) // 1024
        span = (span * count) // 1024
        shift = 16 - span.bit_length()
        low, span, out = low << shift, span << shift, out + shift
        left.append(shift)
    # `low` has out + 16 bits; the code is the first multiple of 2**14 at or above it.
    code = -(-low // 2**14)
    assert low <= code << 14 and (code + 1) << 14 <= low + span
    return left, code, out + 2


def decode_apack(encoded) -> list[int]:
    """The values in container order."""
    bits = Bits(encoded.payload, encoded.size_bits)
    table = apack_table(bits, encoded.bits)
    count = sum(len(run) for run in runs(encoded.shape, 16))
    values: list[int] = []
    while len(values) < count:
        size = bits.take(16)
        text = bits.text[bits.place : bits.place + size]
        bits.place += size
        rows, place, span = [], 0, 2**16 - 1
        code = int(text[:16].ljust(16, "0"), 2)
        for _ in range(min(1024, count - len(values))):
            row = [row for row in table if row[3] and (span * row[2]) // 1024 <= code][-1]
            code -= (span * row[2]) // 1024
            span = (span * row[3]) // 1024
            assert code < span
            while span < 2**15:
                span, code = 2 * span, 2 * code + int(text[place + 16 : place + 17] or "0")
                place += 1
            rows.append(row)
        place += 2
        for first, length, _, _ in rows:
            offset = int(text[place : place + length] or "0", 2)
            values.append(two_s_complement(first + offset, encoded.bits, encoded.signed))
            place += length
        assert place == size
    assert bits.left == 0
    return values


class Bits:
    """A container, read bit by bit."""

    def __init__(self, payload: bytes, size: int) -> None:
        self.text = "".join(f"{byte:08b}" for byte in payload)
        assert len(self.text) - size in range(8)
        assert "1" not in self.text[size:]
        self.text = self.text[:size]
        self.place = 0

    def take(self, count: int) -> int:
        field = self.text[self.place : self.place + count]
        assert len(field) == count
        self.place += count
        return int(field, 2) if field else 0

    @property
    def left(self) -> int:
        return len(self.text) - self.place


def two_s_complement(field: int, bits: int, signed: bool) -> int:
    return field - 2**bits if signed and field >= 2 ** (bits - 1) else field


def decode_dpred(encoded, group_size: int, mode: str) -> list[list[int]]:
    """The values of each group, in container order."""
    bits = Bits(encoded.payload, encoded.size_bits)
    flagged = bool(bits.take(1)) if mode == "offline" else mode == "zeros"
    found = []
    for run in runs(encoded.shape, group_size):
        for start in range(0, len(run), group_size):
            size = min(group_size, len(run) - start)
            if mode in ("adaptive", "auto"):
                flagged = bool(bits.take(1))
            wide = bits.take({8: 3, 16: 4}[encoded.bits]) + 1
            flags = [bits.take(1) for _ in range(size)] if flagged else [1] * size
            found.append(
                [two_s_complement(bits.take(wide), wide, encoded.signed) if flag else 0 for flag in flags]
            )
    assert bits.left == 0
    return found


def decode_zero_rle(encoded, group_size: int, run_bits: int) -> list[int]:
    """The values in container order."""
    bits = Bits(encoded.payload, encoded.size_bits)
    count = sum(len(run) for run in runs(encoded.shape, group_size))
    values: list[int] = []
    while bits.left:
        values += [0] * bits.take(run_bits)
        values.append(two_s_complement(bits.take(encoded.bits), encoded.bits, encoded.signed))
    return values + [0] * (count - len(values))
