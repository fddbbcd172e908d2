//! What this kernel and this user may do.

use crate::error::Result;
use crate::page::{PAGE_ADDRESS, program_file};
use crate::redirect::{is_marked, read_whole};
use crate::remote::{AuxVector, RemoteAddr, RemoteMemory, Tid};
use elsewhen_vdso::page::{PAGE_MAGIC, PAGE_SIZE};
use std::fs;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

/// `release` of `uname(2)`.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// `kernel.yama.ptrace_scope`; `None` where the kernel has no Yama.
pub fn yama_scope() -> Option<u32> {
    fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok()?.trim().parse().ok()
}

/// A capability that matters here (`capabilities(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Loading filters without `no_new_privs`.
    SysAdmin = 21,
    /// Entering processes of other users.
    SysPtrace = 19,
}

/// Whether this process has a capability.
pub fn has(capability: Capability) -> bool {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return false };
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set >> capability as u32 & 1 == 1)
}

/// Whether `/proc/PID/mem` may be used to write to read-only mappings, tried on a byte of this process's own vDSO.
///
/// # Errors
/// The kernel's answer where it may not (`proc_mem.force_override`).
pub fn can_write_code() -> Result<()> {
    let tid = Tid(std::process::id());
    let Some(vdso) = AuxVector::of(tid)?.vdso else { return Ok(()) };
    let memory = RemoteMemory::open(tid)?;
    let mut byte = [0];
    // The first byte of the ELF header, replaced by itself.
    memory.read(vdso, &mut byte)?;
    memory.write(vdso, &byte)
}

/// The page of a member, as bytes; `None` where the process is not a member.
///
/// # Errors
/// Where its memory may not be read, or it is gone.
pub fn page_of(tid: Tid) -> Result<Option<Vec<u8>>> {
    let memory = RemoteMemory::open(tid)?;
    let mut page = vec![0; PAGE_SIZE];
    let mapped = memory.read(RemoteAddr(PAGE_ADDRESS), &mut page).is_ok();
    Ok((mapped && page.starts_with(&PAGE_MAGIC.to_le_bytes())).then_some(page))
}

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

/// Whether something has been added to a process's vDSO: it is or was a member.
///
/// # Errors
/// Where its memory may not be read, or it is gone.
pub fn is_patched(tid: Tid) -> Result<bool> {
    let Some(vdso) = AuxVector::of(tid)?.vdso else { return Ok(false) };
    Ok(is_marked(&read_whole(&RemoteMemory::open(tid)?, vdso)?))
}
