"""C programs of channel graphs, built and run here, or for a microcontroller under an emulator."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

STRICT = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror")

STARTUP = """
.syntax unified
.thumb
.section .vectors, "a"
.word stack_top, _start, stop, stop, stop, stop, stop
.text
.thumb_func
stop: b stop
"""
"""What a Cortex-M begins with: where its stack is, and where its program."""

MEMORIES = """
MEMORY { FLASH : ORIGIN = 0, LENGTH = 4M  RAM : ORIGIN = 0x20000000, LENGTH = 4M }
ENTRY(_start)
SECTIONS {
  .text : {
    KEEP(*(.vectors)) *(.text*) KEEP(*(.init)) KEEP(*(.fini)) *(.rodata*) . = ALIGN(4);
    __preinit_array_start = .; KEEP(*(.preinit_array*)) __preinit_array_end = .;
    __init_array_start = .; KEEP(*(.init_array*)) __init_array_end = .;
    __fini_array_start = .; KEEP(*(.fini_array*)) __fini_array_end = .;
  } > FLASH
  .ARM.exidx : { __exidx_start = .; *(.ARM.exidx*) __exidx_end = .; } > FLASH
  .data : { *(.data*) } > RAM
  .bss (NOLOAD) : { __bss_start__ = .; *(.bss*) *(COMMON) . = ALIGN(8); __bss_end__ = .; end = .; __end__ = .; } > RAM
  stack_top = ORIGIN(RAM) + LENGTH(RAM);
}
"""
"""The memory of Arm's MPS2 boards, of which the emulator fills both parts itself."""


def need(*programs: str) -> None:
    """Skip the test where one of the programs is missing."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def build(source: Path, *words: str) -> Path:
    """The program of a C file, compiled without a warning."""
    need("gcc")
    program = source.with_suffix("")
    subprocess.run(["gcc", "-O2", *STRICT, *words, str(source), "-o", str(program), "-lm"], check=True)
    return program


def logits(program: Sequence[str | Path], pixels: NDArray[np.uint8], folder: Path, planar: bool) -> NDArray[np.float64]:
    """What a program gives for the pixels [channels, height, width] of an image."""
    image = folder / "image.raw"
    image.write_bytes((pixels if planar else pixels.transpose(1, 2, 0)).tobytes())
    words = [*program, "--logits", *(["--planar"] if planar else []), image]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return np.array([float(line) for line in done.stdout.split()])


def build_for_cortex_m(source: Path, core: str) -> Path:
    """The program of a C file for a Cortex-M, whose input and output go through the debugger."""
    need("arm-none-eabi-gcc")
    folder, program = source.parent, source.with_suffix(".elf")
    (folder / "startup.s").write_text(STARTUP)
    (folder / "memories.ld").write_text(MEMORIES)
    flags = [f"-mcpu={core}", "-mthumb", "-O2", *STRICT, "--specs=rdimon.specs", f"-T{folder / 'memories.ld'}"]
    files = [str(source), str(folder / "startup.s")]
    subprocess.run(["arm-none-eabi-gcc", *flags, *files, "-o", str(program), "-lm"], check=True)
    return program


def emulator(board: str, program: Path, words: Sequence[str]) -> list[str]:
    """The command that runs a program with some words on an emulated board."""
    need("qemu-system-arm")
    given = ",".join(f"arg={word}" for word in [program.name, *words])
    target = ["-semihosting-config", f"enable=on,target=native,{given}"]
    return ["qemu-system-arm", "-M", board, "-nographic", "-monitor", "none", *target, "-kernel", str(program)]
