//! What this kernel and this user may do.

use crate::error::Result;
use crate::page::PAGE_ADDRESS;
use crate::redirect::{is_marked, read_whole};
use crate::remote::{AuxVector, RemoteAddr, RemoteMemory, Tid};
use elsewhen_vdso::page::{PAGE_MAGIC, PAGE_SIZE};
#[cfg(target_arch = "x86_64")]
use elsewhen_vdso::surface::X32_BIT;
use std::fs;

#[cfg(target_arch = "x86_64")]
pub use crate::nothing32::runs_32_bit_programs;

/// Whether this kernel runs x32 programs (`CONFIG_X86_X32_ABI`, and `syscall.x32=y` where that is not the default), tried with
/// a call by their interface.
#[cfg(target_arch = "x86_64")]
pub fn runs_x32_programs() -> bool {
    // SAFETY: `getpid`, which takes nothing.
    let result = unsafe { libc::syscall(libc::SYS_getpid | i64::from(X32_BIT)) };
    result == i64::from(std::process::id())
}

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

/// Whether something has been added to a process's vDSO: it is or was a member.
///
/// # Errors
/// Where its memory may not be read, or it is gone.
pub fn is_patched(tid: Tid) -> Result<bool> {
    let Some(vdso) = AuxVector::of(tid)?.vdso else { return Ok(false) };
    Ok(is_marked(&read_whole(&RemoteMemory::open(tid)?, vdso)?))
}
