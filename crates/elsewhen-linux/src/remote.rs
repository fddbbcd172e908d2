//! Another process's memory.

use crate::error::{Result, Step};
use elsewhen_vdso::elf;
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
    #[cfg(target_arch = "x86_64")]
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

/// What kind of program a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    /// 64-bit, of the machine that this was built for.
    Native,
    /// 32-bit x86.
    I386,
    /// x86-64 with addresses of 32 bits.
    X32,
}

/// What a program's auxiliary vector says of where things lie (`getauxval(3)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuxVector {
    /// `AT_SYSINFO_EHDR`: the vDSO; `None` where the kernel gives none.
    pub vdso: Option<RemoteAddr>,
    /// What kind of program it was made for; one of x32 looks like one of i386.
    pub abi: Abi,
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
        Ok(Self::parse(&bytes[..read]))
    }

    /// Pairs of words, key and value, which are as wide as the program's.
    fn parse(bytes: &[u8]) -> Self {
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        // Keys are small numbers, so the upper half of the first one is zero. The first value is not: it is that of
        // AT_SYSINFO or AT_SYSINFO_EHDR, or with vdso=0 of AT_HWCAP, which has a bit for every processor here.
        let narrow = bytes.get(4..8).is_some_and(|upper| word(upper) != 0);
        let (abi, width) = if narrow { (Abi::I386, 4) } else { (Abi::Native, 8) };
        let mut entries = bytes.chunks_exact(2 * width).map(|entry| entry.split_at(width));
        let vdso = entries.find(|(key, _)| word(key) == libc::AT_SYSINFO_EHDR);
        Self { vdso: vdso.map(|(_, value)| RemoteAddr(word(value))).filter(|address| address.0 != 0), abi }
    }

    /// Where a process's vDSO lies.
    ///
    /// # Errors
    /// As [`of`](Self::of), and where it has none.
    pub(crate) fn vdso_of(tid: Tid) -> Result<RemoteAddr> {
        Self::of_with_vdso(tid).map(|(_, vdso)| vdso)
    }

    /// What kind of program a process runs, and where its vDSO lies.
    ///
    /// # Errors
    /// As [`vdso_of`](Self::vdso_of).
    pub(crate) fn of_with_vdso(tid: Tid) -> Result<(Abi, RemoteAddr)> {
        let Self { abi, vdso } = Self::of(tid)?;
        let vdso = vdso.ok_or_else(|| crate::Error::refused(format!("process {} has no vDSO", tid.0)))?;
        if abi == Abi::Native {
            return Ok((abi, vdso));
        }
        // Two kinds of programs have words of 32 bits there. Their vDSOs tell them apart.
        let mut head = [0; 20];
        RemoteMemory::open(tid)?.read(vdso, &mut head)?;
        let is_x32 = elf::file_header(&head).is_some_and(|header| header.machine == elf::EM_X86_64);
        Ok((if is_x32 { Abi::X32 } else { abi }, vdso))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_as_wide_as_its_program() {
        let wide = [33_u64, 0x7ffc_1234_5000, 51, 3376, 16, 0xbfeb_fbff, 0, 0];
        let wide: Vec<u8> = wide.iter().flat_map(|word| word.to_le_bytes()).collect();
        let narrow = [32_u32, 0xf7f7_e5e0, 33, 0xf7f7_e000, 16, 0xbfeb_fbff, 0, 0];
        let narrow: Vec<u8> = narrow.iter().flat_map(|word| word.to_le_bytes()).collect();
        let found = AuxVector::parse(&wide);
        assert_eq!(found, AuxVector { vdso: Some(RemoteAddr(0x7ffc_1234_5000)), abi: Abi::Native });
        let found = AuxVector::parse(&narrow);
        assert_eq!(found, AuxVector { vdso: Some(RemoteAddr(0xf7f7_e000)), abi: Abi::I386 });
        assert_eq!(AuxVector::parse(&[]), AuxVector { vdso: None, abi: Abi::Native });
        assert_eq!(AuxVector::of(Tid(std::process::id())).unwrap().abi, Abi::Native);
    }
}
