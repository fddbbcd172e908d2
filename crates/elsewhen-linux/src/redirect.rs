//! The host vDSO's entries, turned towards the image.
//!
//! The first instructions of each time function are replaced by a jump. They live on in a *trampoline*, relocated
//! and followed by a jump back, so that the image can call the host's function. Everything added lies in the
//! unused end of the vDSO's own pages, within reach of a 5-byte jump. The kernel's vDSO is the same in every
//! process but for its address, and all of this is relative to that, so the patch is computed once.
//!
//! The patched pages are private copies: no other process sees them, and non-members run the kernel's own.

#[cfg(target_arch = "x86_64")]
use crate::attach_stub;
use crate::clock;
use crate::entries::{CLOCK_GETTIME, ENTRIES, displaced, jump, thunk, trampoline};
use crate::error::{Error, Result, Step};
use crate::page::{IMAGE_ADDRESS, Mapping};
use crate::remote::{AuxVector, RemoteAddr, RemoteMemory, Tid};
use crate::stub;
use elsewhen_vdso::elf::{self, Elf};
#[cfg(target_arch = "x86_64")]
use elsewhen_vdso::state::ABI_X32;
use elsewhen_vdso::state::{ABI_NATIVE, Boot, FILTERED};
use elsewhen_vdso::surface::Reach;
#[cfg(target_arch = "x86_64")]
use std::sync::{Arc, Mutex, PoisonError};

/// The kernel lets programs read and write their FS and GS bases (`arch/x86/include/uapi/asm/hwcap2.h`).
const HWCAP2_FSGSBASE: u64 = if cfg!(target_arch = "x86_64") { 2 } else { 0 };

/// First word of what is added to a vDSO: a process that has it is a member.
pub const MARK: u64 = u64::from_le_bytes(*b"elswhen1");

/// What the image of a process is told of its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What the namespace can do.
    pub reach: Reach,
    /// What the process's filters catch; `None` where there are none.
    pub filtered: Option<Reach>,
    /// Whose namespace it is: `BELONGS_*` of the state.
    pub belongs: u64,
}

impl Terms {
    /// What the image is told besides, in a process whose vDSO lies there and is so long.
    pub(crate) fn boot(&self, vdso: RemoteAddr, length: usize, host_clock: u64, abi: u64) -> Boot {
        // SAFETY: reads an entry of this process's auxiliary vector.
        let hwcap2 = unsafe { libc::getauxval(libc::AT_HWCAP2) };
        Boot {
            vdso_start: vdso.0,
            vdso_end: vdso.plus(length as u64).0,
            host_clock,
            fsgsbase: hwcap2 & HWCAP2_FSGSBASE,
            reach: self.reach.to_bits(),
            belongs: self.belongs,
            filtered: self.filtered.map_or(0, |reach| reach.to_bits() | FILTERED),
            abi,
            vdso_calls: u64::from(clock::vdso_makes_calls()),
        }
    }
}

/// Bytes of the pages that programs can be entered with: state, page and image lie a page apart.
const PAGE_BYTES: usize = elsewhen_vdso::page::PAGE_SIZE;

/// The kernel's vDSO, as it is before anyone patches it.
#[derive(Clone, Debug)]
pub struct HostVdso {
    bytes: Vec<u8>,
    /// `ABI_*`: for what kind of programs it is.
    abi: u64,
}

/// What to write into a member's vDSO.
#[derive(Clone, Debug)]
pub struct Patch {
    original: Vec<u8>,
    /// `ABI_*`: for what kind of programs it is.
    abi: u64,
    /// Whether what is added leaves the section headers where they are.
    has_sections: bool,
    /// From the first redirected entry to the last, with the code between.
    entries: Span,
    /// The mark, trampolines and thunks, and the stub.
    addition: Span,
    stub: u64,
    /// The original code of `clock_gettime`.
    host_clock: u64,
    #[cfg(target_arch = "x86_64")]
    displacements: Vec<Displacement>,
}

/// Instructions that have lived at an entry, and where they live now.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Debug)]
struct Displacement {
    /// The offset of the entry.
    entry: u64,
    moved: Moved,
}

/// Pairs of offsets: of an instruction from the second on, at the entry and in the trampoline.
#[cfg(target_arch = "x86_64")]
pub(crate) type Moved = Vec<(u64, u64)>;

#[derive(Clone, Debug)]
struct Span {
    offset: usize,
    bytes: Vec<u8>,
}

impl HostVdso {
    /// Reads this process's own.
    ///
    /// # Errors
    /// Where there is none, or this process is itself a member.
    pub fn of_this_process() -> Result<Self> {
        if rustix::param::page_size() != PAGE_BYTES {
            return Err(Error::refused(format!(
                "this kernel has pages of {} KiB, and a namespace needs pages of 4 KiB",
                rustix::param::page_size() / 1024
            )));
        }
        let tid = Tid(std::process::id());
        let Some(at) = AuxVector::of(tid)?.vdso else {
            return Err(Error::refused(
                "this kernel gives programs no vDSO (booted with vdso=0?), so there is nothing to redirect",
            ));
        };
        let bytes = read_whole(&RemoteMemory::open(tid)?, at)?;
        if Elf::native(&bytes).is_none() {
            return Err(Error::refused("this kernel's vDSO is not a 64-bit ELF image"));
        }
        if is_marked(&bytes) {
            return Err(Error::refused("this process is itself in a time namespace"));
        }
        Ok(Self { bytes, abi: ABI_NATIVE })
    }

    /// What kernels map into x32 programs: the same code, as a file of another class.
    #[cfg(target_arch = "x86_64")]
    const fn of_x32(bytes: Vec<u8>) -> Self {
        Self { bytes, abi: ABI_X32 }
    }

    fn elf(&self) -> Option<Elf<'_>> {
        #[cfg(target_arch = "x86_64")]
        if self.abi == ABI_X32 {
            return Elf::x32(&self.bytes);
        }
        Elf::native(&self.bytes)
    }

    /// How many unused bytes there are at the end of its pages.
    pub fn room(&self) -> usize {
        self.bytes.len() - self.used()
    }

    /// The sizes of the time functions, for people: name and bytes, `None` where it has none.
    pub fn functions(&self) -> Vec<(&'static str, Option<u64>)> {
        let elf = self.elf();
        ENTRIES.map(|(name, ..)| (name, elf.and_then(|elf| Some(elf.function(name)?.size)))).to_vec()
    }

    /// The end of everything that the ELF headers account for, but not before the last byte that is not zero.
    fn used(&self) -> usize {
        self.elf().map_or(self.bytes.len(), used)
    }

    /// Computes the patch.
    ///
    /// # Errors
    /// Where the vDSO has no `clock_gettime`, an entry cannot be redirected, or there is no room.
    pub fn patch(&self) -> Result<Patch> {
        self.patch_with(stub::code(), self.used())
    }

    /// As [`patch`](Self::patch), over the section headers too, which the program's copy then no longer has: they lie behind
    /// what is loaded, and nothing that an x32 program runs looks for them.
    ///
    /// # Errors
    /// As [`patch`](Self::patch).
    #[cfg(target_arch = "x86_64")]
    fn patch_over_sections(&self) -> Result<Patch> {
        let loaded = self.elf().into_iter().flat_map(Elf::segments).filter(|segment| segment.kind == elf::PT_LOAD);
        let end = loaded.map(|segment| segment.vaddr.saturating_add(segment.mem_size)).max();
        let end = end.and_then(|end| usize::try_from(end).ok()).unwrap_or(self.bytes.len());
        Ok(Patch { has_sections: false, ..self.patch_with(stub::code(), end)? })
    }

    /// As [`patch`](Self::patch), with the stub for running processes in place of the one for programs that start.
    ///
    /// # Errors
    /// As [`patch`](Self::patch).
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn patch_running(&self) -> Result<Patch> {
        self.patch_with(attach_stub::code(), self.used())
    }

    /// Computes the patch that adds a stub and all else from an offset on.
    fn patch_with(&self, stub_code: &[u8], from: usize) -> Result<Patch> {
        let elf = self.elf().ok_or_else(|| Error::refused("the vDSO is not an ELF image"))?;
        let mut patched = self.bytes.clone();
        let mut addition = Addition { at: from.next_multiple_of(16), bytes: MARK.to_le_bytes().to_vec() };
        let mut trampolines: Vec<(&str, u64)> = Vec::new();
        let mut jumps = Vec::new();
        #[cfg(target_arch = "x86_64")]
        let mut displacements = Vec::new();
        for (name, hook, calls) in ENTRIES {
            let Some(function) = elf.function(name) else {
                if name == CLOCK_GETTIME {
                    return Err(Error::refused(format!("this kernel's vDSO has no {CLOCK_GETTIME}")));
                }
                continue;
            };
            let displaced = displaced(&self.bytes, name, function)?;
            let at = addition.align();
            let trampoline = trampoline(name, &displaced, at)?;
            addition.bytes.extend(trampoline.code);
            trampolines.push((name, at));
            #[cfg(target_arch = "x86_64")]
            displacements.push(Displacement { entry: function.value, moved: trampoline.moved });
            let host = trampolines.iter().find(|(name, _)| *name == calls).map(|(_, at)| *at);
            let host = host.ok_or_else(|| Error::refused(format!("this kernel's vDSO has no {calls}")))?;
            let at = addition.align();
            addition.bytes.extend(thunk(at, host, IMAGE_ADDRESS + hook));
            jumps.push((function.value as usize, displaced.length, at));
        }
        for &(entry, length, thunk) in &jumps {
            patched[entry..entry + length].copy_from_slice(&jump(entry as u64, length, thunk));
        }
        let stub = addition.align();
        addition.bytes.extend(stub_code);
        let needed = addition.at + addition.bytes.len();
        if needed > self.bytes.len() {
            return Err(Error::refused(format!(
                "this kernel's vDSO has {} unused bytes, and {} are needed",
                self.room(),
                addition.bytes.len()
            )));
        }
        let first = jumps.iter().map(|(entry, ..)| *entry).min().unwrap_or(0);
        let last = jumps.iter().map(|(entry, length, _)| entry + length).max().unwrap_or(0);
        Ok(Patch {
            entries: Span { offset: first, bytes: patched[first..last].to_vec() },
            addition: Span { offset: addition.at, bytes: addition.bytes },
            original: self.bytes.clone(),
            abi: self.abi,
            has_sections: true,
            stub,
            host_clock: trampolines.first().map_or(0, |(_, at)| *at),
            #[cfg(target_arch = "x86_64")]
            displacements,
        })
    }
}

/// A patch for the vDSO of programs of another kind than this one.
#[cfg(target_arch = "x86_64")]
pub(crate) trait Other: Sized {
    /// Computes it.
    ///
    /// # Errors
    /// Where that vDSO lacks a function, an entry cannot be redirected, or there is no room.
    fn of(original: Vec<u8>) -> Result<Self>;

    /// The vDSO that it is for.
    fn original(&self) -> &[u8];
}

#[cfg(target_arch = "x86_64")]
impl Other for Patch {
    fn of(original: Vec<u8>) -> Result<Self> {
        let vdso = HostVdso::of_x32(original);
        vdso.patch().or_else(|_| vdso.patch_over_sections())
    }

    fn original(&self) -> &[u8] {
        &self.original
    }
}

/// The patch for the vDSO of another kind of programs that has been met: this process has none to read.
#[cfg(target_arch = "x86_64")]
#[derive(Debug)]
pub(crate) struct Known<P>(Mutex<Option<Arc<P>>>);

#[cfg(target_arch = "x86_64")]
impl<P> Default for Known<P> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

/// What has been found in a process of another kind.
#[cfg(target_arch = "x86_64")]
#[derive(Debug)]
pub(crate) enum Found<P> {
    /// Its vDSO is as the kernel made it; what to write there.
    Original(Arc<P>),
    /// It has been patched already.
    Applied,
}

#[cfg(target_arch = "x86_64")]
impl<P: Other> Known<P> {
    /// Looks at the vDSO of a process.
    ///
    /// # Errors
    /// Where it cannot be read, or redirected.
    pub(crate) fn look(&self, memory: &RemoteMemory, vdso: RemoteAddr) -> Result<Found<P>> {
        let bytes = read_whole(memory, vdso)?;
        if is_marked(&bytes) {
            return Ok(Found::Applied);
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has changed its own vDSO has changed nobody else's.
        if let Some(patch) = known.as_ref().filter(|patch| patch.original() == bytes) {
            return Ok(Found::Original(Arc::clone(patch)));
        }
        let patch = Arc::new(P::of(bytes)?);
        *known = Some(Arc::clone(&patch));
        Ok(Found::Original(patch))
    }
}

/// All of the vDSO that lies at an address of a process.
///
/// # Errors
/// Where none does, or memory cannot be read.
pub(crate) fn read_whole(memory: &RemoteMemory, at: RemoteAddr) -> Result<Vec<u8>> {
    let pid = memory.tid().0;
    // Not by its segment: the section headers lie behind that, on some kernels in a page of their own.
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"));
    let size = maps
        .step(|| format!("look at the mappings of process {pid}"))?
        .lines()
        .filter_map(Mapping::parse)
        .find(|mapping| mapping.start == at.0)
        .map(|mapping| mapping.end - mapping.start)
        .filter(|size| *size <= 0x10_0000)
        .ok_or_else(|| Error::refused(format!("the vDSO of process {pid} is not where the kernel says")))?;
    let mut bytes = vec![0; size as usize];
    memory.read(at, &mut bytes)?;
    Ok(bytes)
}

/// Whether something has been added to these bytes of a vDSO.
pub(crate) fn is_marked(bytes: &[u8]) -> bool {
    bytes.windows(8).any(|window| window == MARK.to_le_bytes())
}

/// The end of everything that the headers of a whole file account for, but not before the last byte that is not zero.
pub(crate) fn used(elf: Elf<'_>) -> usize {
    let bytes = elf.bytes();
    let tables = [elf.segment_table(), elf.section_table()].into_iter().flatten();
    let sections = elf.sections().filter(|section| section.kind != elf::SHT_NOBITS);
    let ends = tables.chain(sections.map(|section| (section.offset, section.size)));
    let declared = ends.map(|(at, len)| at.saturating_add(len)).max().unwrap_or(u64::MAX);
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    written.max(usize::try_from(declared).unwrap_or(usize::MAX).min(bytes.len()))
}

/// Bytes growing at the end of the vDSO.
struct Addition {
    at: usize,
    bytes: Vec<u8>,
}

impl Addition {
    /// Pads to 16 and returns the offset in the vDSO.
    fn align(&mut self) -> u64 {
        while !(self.at + self.bytes.len()).is_multiple_of(16) {
            self.bytes.push(0xcc);
        }
        (self.at + self.bytes.len()) as u64
    }
}

impl Patch {
    /// Adds everything but the jumps to a process whose entries are the kernel's, and none of whose threads is in what may
    /// have been added before: until an entry is redirected, what is added is dead code.
    ///
    /// # Errors
    /// Where that vDSO is not the one that the patch is for, or memory cannot be written. The caller must not let
    /// the process run on then.
    pub(crate) fn prepare(&self, memory: &RemoteMemory, vdso: RemoteAddr) -> Result<()> {
        let mut found = vec![0; self.original.len()];
        memory.read(vdso, &mut found)?;
        let Span { offset, bytes } = &self.addition;
        let added = *offset..offset + bytes.len();
        if found[added.clone()].starts_with(&MARK.to_le_bytes()) {
            // By somebody who did not come to an end.
            found[added.clone()].copy_from_slice(&self.original[added]);
        }
        if found != self.original {
            return Err(Error::refused(format!("the vDSO of process {} is not the kernel's", memory.tid().0)));
        }
        if !self.has_sections {
            // `e_shoff`, `e_shnum` and `e_shstrndx` of a file with addresses of 32 bits.
            memory.write(vdso.plus(32), &[0; 4])?;
            memory.write(vdso.plus(48), &[0; 4])?;
        }
        memory.write(vdso.plus(*offset as u64), bytes)
    }

    /// Redirects the entries of a prepared process, whose threads are all elsewhere.
    ///
    /// # Errors
    /// Where memory cannot be written.
    pub(crate) fn redirect(&self, memory: &RemoteMemory, vdso: RemoteAddr) -> Result<()> {
        memory.write(vdso.plus(self.entries.offset as u64), &self.entries.bytes)
    }

    /// Gives a process its original entries back. What has been added stays: it is dead code, but for whoever is in it.
    ///
    /// # Errors
    /// Where memory cannot be written.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn restore(&self, memory: &RemoteMemory, vdso: RemoteAddr) -> Result<()> {
        let Span { offset, bytes } = &self.entries;
        memory.write(vdso.plus(*offset as u64), &self.original[*offset..offset + bytes.len()])
    }

    /// Removes what has been added to a process in which nothing leads there.
    ///
    /// # Errors
    /// Where memory cannot be written.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn remove(&self, memory: &RemoteMemory, vdso: RemoteAddr) -> Result<()> {
        let Span { offset, bytes } = &self.addition;
        memory.write(vdso.plus(*offset as u64), &vec![0; bytes.len()])
    }

    /// Where a thread is to go on that was about to execute a displaced instruction; `None` for one elsewhere.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn moved(&self, vdso: RemoteAddr, rip: u64) -> Option<u64> {
        let offset = rip.wrapping_sub(vdso.0);
        let mut moved = self.displacements.iter().flat_map(|displacement| &displacement.moved);
        moved.find(|(from, _)| *from == offset).map(|(_, to)| vdso.plus(*to).0)
    }

    /// Whether an address lies within one of the entries' displaced instructions, behind its first byte.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_displaced(&self, vdso: RemoteAddr, rip: u64) -> bool {
        let offset = rip.wrapping_sub(vdso.0);
        self.displacements.iter().any(|displacement| {
            displacement.moved.last().is_some_and(|(last, _)| (displacement.entry + 1..=*last).contains(&offset))
        })
    }

    /// Whether the entries of a process lead to the image.
    pub(crate) fn leads_to_image(&self, memory: &RemoteMemory, vdso: RemoteAddr) -> bool {
        let mut found = vec![0; self.entries.bytes.len()];
        memory.read(vdso.plus(self.entries.offset as u64), &mut found).is_ok() && found == self.entries.bytes
    }

    /// Whether an address lies in what is added.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_added(&self, vdso: RemoteAddr, address: u64) -> bool {
        let Span { offset, bytes } = &self.addition;
        let start = vdso.plus(*offset as u64).0;
        (start..start + bytes.len() as u64).contains(&address)
    }

    /// Where the stub lies in a patched process.
    pub(crate) const fn stub(&self, vdso: RemoteAddr) -> RemoteAddr {
        vdso.plus(self.stub)
    }

    /// Where the unused rest of a patched vDSO lies, and how much there is of it.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn rest(&self, vdso: RemoteAddr) -> (RemoteAddr, usize) {
        let used = self.addition.offset + self.addition.bytes.len();
        (vdso.plus(used as u64), self.original.len() - used)
    }

    /// What the image is told in a process whose vDSO lies there.
    pub(crate) fn boot(&self, vdso: RemoteAddr, terms: &Terms) -> Boot {
        terms.boot(vdso, self.original.len(), vdso.plus(self.host_clock).0, self.abi)
    }

    /// Whether a process whose vDSO lies there has been patched already.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_applied(&self, memory: &RemoteMemory, vdso: RemoteAddr) -> bool {
        let mut mark = [0; 8];
        memory.read(vdso.plus(self.addition.offset as u64), &mut mark).is_ok() && mark == MARK.to_le_bytes()
    }

    /// How many bytes are added to the vDSO.
    pub fn added_bytes(&self) -> usize {
        self.addition.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_vdso_can_be_patched() {
        let host = HostVdso::of_this_process().unwrap();
        let patch = host.patch().unwrap();
        assert!(patch.added_bytes() <= host.room());
        assert_eq!(&patch.addition.bytes[..8], b"elswhen1");
    }
}
