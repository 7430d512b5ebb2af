from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from pretrained.tensorflow_checkpoint import CheckpointError, TensorFlowCheckpoint

TENSORS = {
    f"layer_with_weights-{i}/{part}/.ATTRIBUTES/VARIABLE_VALUE": np.random.default_rng(i)
    .normal(size=shape)
    .astype("f4")
    for i in range(12)
    for part, shape in (("kernel", (3, 3, 2, 4)), ("beta", (4,)), ("gamma", (4,)))
} | {
    "save_counter/.ATTRIBUTES/VARIABLE_VALUE": np.array(7, "i8"),
    "wide": np.arange(6, dtype="f8").reshape(2, 3),
    "half": np.arange(3, dtype="f2"),
    "none": np.zeros((0, 5), "f4"),
}


@pytest.fixture
def prefix(tmp_path: Path, writer) -> Path:
    writer.write_checkpoint(tmp_path / "net", TENSORS)
    return tmp_path / "net"


def read(prefix: Path) -> dict[str, np.ndarray]:
    checkpoint = TensorFlowCheckpoint(prefix)
    return {name: checkpoint[name] for name in checkpoint if name != "_CHECKPOINTABLE_OBJECT_GRAPH"}


def same(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> bool:
    return one.keys() == two.keys() and all(
        one[k].dtype == two[k].dtype and one[k].shape == two[k].shape and one[k].tobytes() == two[k].tobytes()
        for k in two
    )


def is_sentence(error: BaseException) -> bool:
    return "\n" not in str(error) and str(error).endswith(".") and str(error)[0].isupper()


def outcome(prefix: Path) -> str:
    """right, wrong, or a sentence; anything else is raised."""
    try:
        found = read(prefix)
    except (CheckpointError, FileNotFoundError) as error:
        return "sentence" if is_sentence(error) else f"no sentence: {error}"
    return "right" if same(found, TENSORS) else "wrong"


def test_reads_what_was_written(prefix: Path):
    assert same(read(prefix), TENSORS)
    assert len(TensorFlowCheckpoint(prefix)) == len(TENSORS) + 1


def test_every_cut_of_the_index_is_a_sentence(prefix: Path):
    path = Path(f"{prefix}.index")
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        assert outcome(prefix) == "sentence", end


def test_every_cut_of_the_weights_is_a_sentence(prefix: Path):
    path = Path(f"{prefix}.data-00001-of-00002")
    whole = path.read_bytes()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        assert outcome(prefix) == "sentence", end


@pytest.mark.parametrize("part", ["index", "data-00001-of-00002"])
def test_flipped_bits_never_give_a_wrong_weight(prefix: Path, part: str):
    path = Path(f"{prefix}.{part}")
    whole = path.read_bytes()
    draw = random.Random(part)
    seen = {"sentence": 0, "right": 0, "wrong": 0}
    for _ in range(1500):
        damaged = bytearray(whole)
        for _ in range(draw.choice((1, 1, 2, 9))):
            damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        seen[outcome(prefix)] += 1
    # what may be damaged unseen: the footer's padding and where it says the empty block of meta data lies
    assert seen["wrong"] == 0
    assert seen["sentence"] >= (1500 if part != "index" else 1400)


def test_what_carries_no_weight_may_be_damaged(prefix: Path):
    text = Path(f"{prefix}.data-00000-of-00002")
    text.write_bytes(b"something else")
    assert outcome(prefix) == "right"
    text.unlink()
    assert outcome(prefix) == "right"
    with pytest.raises(CheckpointError, match="text"):
        TensorFlowCheckpoint(prefix)["_CHECKPOINTABLE_OBJECT_GRAPH"]


def test_bytes_in_other_places_and_strange_ends(prefix: Path):
    path = Path(f"{prefix}.index")
    whole = path.read_bytes()
    draw = random.Random(0)
    for _ in range(1000):
        start, length = draw.randrange(len(whole)), draw.randrange(1, 60)
        cut = bytearray(whole)
        match draw.randrange(4):
            case 0:
                del cut[start : start + length]
            case 1:
                cut[start:start] = draw.randbytes(length)
            case 2:
                cut[start : start + length] = bytes([draw.choice((0, 0xFF, 0x80, 0x7F))]) * length
            case 3:
                cut[start:start] = whole[start : start + length]
        path.write_bytes(cut)
        assert outcome(prefix) in ("right", "sentence")


def test_damage_under_right_checksums_is_never_a_crash(tmp_path: Path, writer):
    """Damages a block's entries and signs them anew, so that they reach all of the parser."""
    prefix = tmp_path / "net"
    writer.write_checkpoint(prefix, TENSORS)
    entries = [(b"", b"\x08\x02\x1a\x02\x08\x01")]
    for i in range(30):
        entries.append((f"t{i:02}".encode(), writer.entry_message(1, (4,), 1, 16 * i, 16, 5)))
    draw = random.Random(1)
    kinds = set()
    for _ in range(1500):
        damaged = list(entries)
        for i in draw.sample((0, 4, 6, 6, 6), draw.choice((1, 3))):
            value = bytearray(damaged[i][1])
            value[draw.randrange(len(value))] = draw.choice((0, 1, 0x12, 0x7F, 0x80, 0xFF, draw.randrange(256)))
            damaged[i] = (damaged[i][0], bytes(value[: draw.randint(1, len(value)) if draw.random() < 0.3 else None]))
        Path(f"{prefix}.index").write_bytes(writer.table(damaged, 10))
        with pytest.raises((CheckpointError, FileNotFoundError)) as caught:
            TensorFlowCheckpoint(prefix)["t05"]  # its checksum is not that of its bytes
        assert is_sentence(caught.value)
        kinds.add(str(caught.value).rpartition(":")[2])
    assert len(kinds) > 8


def test_absurd_sizes_take_no_memory(tmp_path: Path, writer):
    huge = (2**63 - 1, 2**40, 2**31, 10**9)
    prefix = tmp_path / "net"
    header = (b"", b"\x08\x02")
    Path(f"{prefix}.data-00001-of-00002").write_bytes(bytes(64))
    tracemalloc.start()
    for n in huge:
        for arguments in (
            (1, (n, n), 1, 0, 16, 0),
            (1, (n,), 1, 0, (4 * n) % 2**64, 0),
            (1, (4,), 1, n, 16, 0),
            (1, (1,) * 40, 1, 0, 4, 0),
            (1, (4,), n, 0, 16, 0),
            (n, (4,), 1, 0, 16, 0),
            (1, (0, n), 1, 0, 4, 0),
        ):
            Path(f"{prefix}.index").write_bytes(writer.table([header, (b"x", writer.entry_message(*arguments))]))
            with pytest.raises(CheckpointError):
                TensorFlowCheckpoint(prefix)["x"]
    for footer in (writer.varint(n) + writer.varint(m) for n in huge for m in (0, 5, *huge)):
        ends = (b"\0\0" + footer).ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")
        Path(f"{prefix}.index").write_bytes(bytes(100) + ends)
        with pytest.raises(CheckpointError):
            TensorFlowCheckpoint(prefix)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def signed(writer, entries: list[tuple[bytes, bytes]], **arguments) -> bytes:
    return writer.table([(b"", b"\x08\x02"), *entries], **arguments)


def test_each_refusal_says_its_reason(tmp_path: Path, writer):
    prefix = tmp_path / "net"
    Path(f"{prefix}.data-00001-of-00002").write_bytes(bytes(16))
    crc = writer.masked(bytes(16))
    good = writer.entry_message(1, (4,), 1, 0, 16, crc)
    cases = {
        "Snappy": signed(writer, [(b"x", good)], kind=1),
        "number 9": signed(writer, [(b"x", good)], kind=9),
        "header is missing": writer.table([(b"x", good)]),
        "big-endian": writer.table([(b"", b"\x08\x02\x10\x01"), (b"x", good)]),
        "0 shards": writer.table([(b"", b"\x08\x00")]),
        "not in order": signed(writer, [(b"y", good), (b"x", good)]),
        "no text": signed(writer, [(b"\xff\xfe", good)]),
        "stored in slices": signed(writer, [(b"x", good + b"\x3a\x00")]),
        "no shape": signed(writer, [(b"x", b"\x08\x01\x12\x02\x18\x01")]),
        "shard 2 of 2": signed(writer, [(b"x", writer.entry_message(1, (4,), 2, 0, 16, crc))]),
        "number 99": signed(writer, [(b"x", writer.entry_message(99, (4,), 1, 0, 16, crc))]),
        "12 bytes are not those of the shape": signed(writer, [(b"x", writer.entry_message(1, (4,), 1, 0, 12, crc))]),
        "behind the end": signed(writer, [(b"x", writer.entry_message(1, (4,), 1, 4, 16, crc))]),
        "checksum does not agree": signed(writer, [(b"x", writer.entry_message(1, (4,), 1, 0, 16, crc ^ 1))]),
        "data-00000-of-00002 does not exist": signed(writer, [(b"x", writer.entry_message(1, (4,), 0, 0, 16, crc))]),
        "no known kind": signed(writer, [(b"x", good + b"\x3b")]),
        "more than 64 bits": signed(writer, [(b"x", good + b"\x08" + b"\xff" * 12)]),
    }
    for reason, index in cases.items():
        Path(f"{prefix}.index").write_bytes(index)
        with pytest.raises((CheckpointError, FileNotFoundError), match=reason):
            TensorFlowCheckpoint(prefix)["x"]
    Path(f"{prefix}.index").write_bytes(signed(writer, [(b"x", good)]))
    assert TensorFlowCheckpoint(prefix)["x"].tolist() == [0, 0, 0, 0]
    with pytest.raises(KeyError):
        TensorFlowCheckpoint(prefix)["y"]
    with pytest.raises(FileNotFoundError, match="does not exist"):
        TensorFlowCheckpoint(tmp_path / "absent")


def test_overlapping_blocks_are_refused(tmp_path: Path, writer):
    """A small file must not make the reader check the same bytes without end."""
    data = writer.block([(b"", b"\x08\x01")])
    handle = writer.varint(0) + writer.varint(len(data) - 5)
    index = writer.block([(bytes([i]), handle) for i in range(2)])
    footer = (b"\0\0" + writer.varint(len(data)) + writer.varint(len(index) - 5)).ljust(40, b"\0")
    path = tmp_path / "net.index"
    path.write_bytes(data + index + footer + (0xDB4775248B80FB57).to_bytes(8, "little"))
    with pytest.raises(CheckpointError, match="overlap"):
        TensorFlowCheckpoint(tmp_path / "net")


def test_names_cannot_fill_the_memory(tmp_path: Path, writer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pretrained.tensorflow_checkpoint.LARGEST_INDEX", 10_000)
    entry = writer.entry_message(1, (4,), 1, 0, 16, 0)
    names = [(b"x" * 500 + f"{i:03}".encode(), entry) for i in range(30)]
    path = tmp_path / "net.index"
    path.write_bytes(signed(writer, names, entries_a_block=100))
    assert path.stat().st_size < 10_000
    with pytest.raises(CheckpointError, match="too long"):
        TensorFlowCheckpoint(tmp_path / "net")
    path.write_bytes(bytes(10_001))
    with pytest.raises(CheckpointError, match="too large"):
        TensorFlowCheckpoint(tmp_path / "net")
