//! Another process's memory.

use crate::error::{Result, Step};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

/// A thread of another process, in this process's PID namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tid(pub u32);

/// An address in another process. Not a pointer: it cannot be dereferenced here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RemoteAddr(pub u64);

impl RemoteAddr {
    /// The address `bytes` further on.
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

/// `/proc/TID/mem`: reads and writes, writes also to read-only private mappings (`proc_pid_mem(5)`).
#[derive(Debug)]
pub struct RemoteMemory {
    tid: Tid,
    file: File,
}

impl RemoteMemory {
    /// Opens the memory of the process that the thread is in now; a later `execve(2)` of its leaves this value
    /// with the old, dead memory.
    ///
    /// # Errors
    /// Where `ptrace(2)` access is refused, or the thread is gone.
    pub fn open(tid: Tid) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(format!("/proc/{}/mem", tid.0));
        Ok(Self { tid, file: file.step(|| format!("open the memory of process {}", tid.0))? })
    }

    /// The thread whose memory this is.
    pub const fn tid(&self) -> Tid {
        self.tid
    }

    /// Fills `buffer` from an address.
    ///
    /// # Errors
    /// Where part of the range is not mapped.
    pub fn read(&self, from: RemoteAddr, buffer: &mut [u8]) -> Result<()> {
        self.file
            .read_exact_at(buffer, from.0)
            .step(|| format!("read {} bytes of process {} at {:#x}", buffer.len(), self.tid.0, from.0))
    }

    /// Fills as much of `buffer` as can be read from an address on, and returns how much that is.
    pub(crate) fn read_some(&self, from: RemoteAddr, buffer: &mut [u8]) -> usize {
        let mut end = 0;
        // What lies behind the first bytes that cannot be read is not asked for.
        while let Ok(read @ 1..) = self.file.read_at(&mut buffer[end..], from.plus(end as u64).0) {
            end += read;
        }
        end
    }

    /// Writes all of `bytes` at an address.
    ///
    /// # Errors
    /// Where part of the range is not mapped, or the kernel forbids writes to read-only mappings.
    pub fn write(&self, to: RemoteAddr, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all_at(bytes, to.0)
            .step(|| format!("write {} bytes of process {} at {:#x}", bytes.len(), self.tid.0, to.0))
    }

    /// A NUL-terminated string of at most `PATH_MAX` bytes.
    ///
    /// # Errors
    /// Where the string is not mapped up to its NUL, or is longer.
    pub fn read_path(&self, from: RemoteAddr) -> Result<Vec<u8>> {
        let mut path = Vec::new();
        while path.len() < libc::PATH_MAX as usize {
            // Never across a page, since the next one may not be mapped.
            let at = from.plus(path.len() as u64);
            let mut chunk = [0; 256];
            let room = (4096 - (at.0 % 4096) as usize).min(chunk.len());
            let chunk = &mut chunk[..room];
            self.read(at, chunk)?;
            if let Some(end) = chunk.iter().position(|byte| *byte == 0) {
                path.extend_from_slice(&chunk[..end]);
                return Ok(path);
            }
            path.extend_from_slice(chunk);
        }
        Err(crate::Error::new("read a path", std::io::Error::from_raw_os_error(libc::ENAMETOOLONG)))
    }
}

impl AsFd for RemoteMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// What a program's auxiliary vector says of where things lie (`getauxval(3)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuxVector {
    /// `AT_SYSINFO_EHDR`: the vDSO; `None` where the kernel gives none.
    pub vdso: Option<RemoteAddr>,
}

impl AuxVector {
    /// Reads `/proc/TID/auxv`.
    ///
    /// # Errors
    /// Where access is refused, or the thread is gone.
    pub fn of(tid: Tid) -> Result<Self> {
        // The kernel's vector has fewer than 32 entries (AT_VECTOR_SIZE).
        let mut bytes = [0; 1024];
        let read = File::open(format!("/proc/{}/auxv", tid.0)).and_then(|file| file.read_at(&mut bytes, 0));
        let read = read.step(|| format!("read the auxiliary vector of process {}", tid.0))?;
        let bytes = &bytes[..read];
        let mut vdso = None;
        for entry in bytes.chunks_exact(16) {
            let word = |at: usize| entry[at..at + 8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            if word(0) == libc::AT_SYSINFO_EHDR {
                vdso = Some(RemoteAddr(word(8))).filter(|address| address.0 != 0);
            }
        }
        Ok(Self { vdso })
    }

    /// Where a process's vDSO lies.
    ///
    /// # Errors
    /// As [`of`](Self::of), and where it has none.
    pub(crate) fn vdso_of(tid: Tid) -> Result<RemoteAddr> {
        Self::of(tid)?.vdso.ok_or_else(|| crate::Error::refused(format!("process {} has no vDSO", tid.0)))
    }
}
