//! Trying whether this kernel runs 32-bit programs.

use crate::page::program_file;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

/// Whether this kernel runs 32-bit programs (`CONFIG_IA32_EMULATION`), tried with one that does nothing.
pub fn runs_32_bit_programs() -> bool {
    let Ok(file) = program_file(&NOTHING_32) else { return false };
    let mut command = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
    command.stdin(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A 32-bit program, in the fewest bytes: `mov eax, 1; xor ebx, ebx; int 0x80`, loaded at 0x8048000.
const NOTHING_32: [u8; 93] = {
    const AT: [u8; 4] = 0x0804_8000_u32.to_le_bytes();
    const CODE: [u8; 9] = [0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80];
    let mut file = [0; 93];
    // `Elf32_Ehdr`: an executable for i386 that begins behind the headers, and has one of them.
    let words: [(usize, [u8; 4]); 12] = [
        (0, *b"\x7fELF"),
        (4, [1, 1, 1, 0]),
        (16, [2, 0, 3, 0]),
        (20, [1, 0, 0, 0]),
        (24, [84, AT[1], AT[2], AT[3]]),
        (28, [52, 0, 0, 0]),
        (40, [52, 0, 32, 0]),
        (44, [1, 0, 0, 0]),
        // `Elf32_Phdr`: all of the file.
        (52, [1, 0, 0, 0]),
        (60, AT),
        (68, [93, 0, 0, 0]),
        (72, [93, 0, 0, 0]),
    ];
    let mut at = 0;
    while at < 4 * words.len() {
        let (place, word) = words[at / 4];
        file[place + at % 4] = word[at % 4];
        at += 1;
    }
    file[76] = 5;
    at = 0;
    while at < CODE.len() {
        file[84 + at] = CODE[at];
        at += 1;
    }
    file
};
