//! The host vDSO's entries, turned towards the image.
//!
//! The first instructions of each time function are replaced by a jump. They live on in a *trampoline*, relocated
//! and followed by a jump back, so that the image can call the host's function. Everything added lies in the
//! unused end of the vDSO's own pages, within reach of a 5-byte jump. The kernel's vDSO is the same in every
//! process but for its address, and all of this is relative to that, so the patch is computed once.
//!
//! The patched pages are private copies: no other process sees them, and non-members run the kernel's own.

use crate::attach_stub;
use crate::error::{Error, Result, Step};
use crate::page::{IMAGE_ADDRESS, Mapping};
use crate::remote::{AuxVector, RemoteAddr, RemoteMemory, Tid};
use crate::stub;
use elsewhen_vdso::elf::{self, Elf, Symbol};
use elsewhen_vdso::image;
use elsewhen_vdso::state::{ABI_X86_64, Boot, FILTERED};
use elsewhen_vdso::surface::Reach;
use iced_x86::{
    BlockEncoder, BlockEncoderOptions, Decoder, DecoderOptions, FlowControl, Instruction, InstructionBlock,
};

/// A jump with a 32-bit displacement.
pub(crate) const JUMP_LEN: usize = 5;

/// The kernel lets programs read and write their FS and GS bases (`arch/x86/include/uapi/asm/hwcap2.h`).
const HWCAP2_FSGSBASE: u64 = 2;

/// First word of what is added to a vDSO: a process that has it is a member.
pub const MARK: u64 = u64::from_le_bytes(*b"elswhen1");

/// The functions that are redirected, the hook of each, and whose original code the hook calls.
const ENTRIES: [(&str, u64, &str); 4] = [
    ("__vdso_clock_gettime", image::HOOK_CLOCK_GETTIME, "__vdso_clock_gettime"),
    ("__vdso_gettimeofday", image::HOOK_GETTIMEOFDAY, "__vdso_clock_gettime"),
    ("__vdso_time", image::HOOK_TIME, "__vdso_clock_gettime"),
    ("__vdso_clock_getres", image::HOOK_CLOCK_GETRES, "__vdso_clock_getres"),
];

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
        }
    }
}

/// The kernel's vDSO, as it is before anyone patches it.
#[derive(Clone, Debug)]
pub struct HostVdso {
    bytes: Vec<u8>,
}

/// What to write into a member's vDSO.
#[derive(Clone, Debug)]
pub struct Patch {
    original: Vec<u8>,
    /// From the first redirected entry to the last, with the code between.
    entries: Span,
    /// The mark, trampolines and thunks, and the stub.
    addition: Span,
    stub: u64,
    /// The original code of `clock_gettime`.
    host_clock: u64,
    displacements: Vec<Displacement>,
}

/// Instructions that have lived at an entry, and where they live now.
#[derive(Clone, Debug)]
struct Displacement {
    /// The offset of the entry.
    entry: u64,
    moved: Moved,
}

/// Pairs of offsets: of an instruction from the second on, at the entry and in the trampoline.
type Moved = Vec<(u64, u64)>;

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
        let tid = Tid(std::process::id());
        let Some(at) = AuxVector::of(tid)?.vdso else {
            return Err(Error::refused(
                "this kernel gives programs no vDSO (booted with vdso=0?), so there is nothing to redirect",
            ));
        };
        let bytes = read_whole(&RemoteMemory::open(tid)?, at)?;
        if Elf::x86_64(&bytes).is_none() {
            return Err(Error::refused("this kernel's vDSO is not a 64-bit ELF image"));
        }
        if is_marked(&bytes) {
            return Err(Error::refused("this process is itself in a time namespace"));
        }
        Ok(Self { bytes })
    }

    /// How many unused bytes there are at the end of its pages.
    pub fn room(&self) -> usize {
        self.bytes.len() - self.used()
    }

    /// The sizes of the time functions, for people: name and bytes, `None` where it has none.
    pub fn functions(&self) -> Vec<(&'static str, Option<u64>)> {
        let elf = Elf::x86_64(&self.bytes);
        ENTRIES.map(|(name, ..)| (name, elf.and_then(|elf| Some(elf.function(name)?.size)))).to_vec()
    }

    /// The end of everything that the ELF headers account for, but not before the last byte that is not zero.
    fn used(&self) -> usize {
        Elf::x86_64(&self.bytes).map_or(self.bytes.len(), used)
    }

    /// Computes the patch.
    ///
    /// # Errors
    /// Where the vDSO has no `clock_gettime`, an entry cannot be redirected, or there is no room.
    pub fn patch(&self) -> Result<Patch> {
        self.patch_with(stub::code())
    }

    /// As [`patch`](Self::patch), with the stub for running processes in place of the one for programs that start.
    ///
    /// # Errors
    /// As [`patch`](Self::patch).
    pub(crate) fn patch_running(&self) -> Result<Patch> {
        self.patch_with(attach_stub::code())
    }

    fn patch_with(&self, stub_code: &[u8]) -> Result<Patch> {
        let elf = Elf::x86_64(&self.bytes).ok_or_else(|| Error::refused("the vDSO is not an ELF image"))?;
        let mut patched = self.bytes.clone();
        let mut addition = Addition { at: self.used().next_multiple_of(16), bytes: MARK.to_le_bytes().to_vec() };
        let mut trampolines: Vec<(&str, u64)> = Vec::new();
        let mut jumps = Vec::new();
        let mut displacements = Vec::new();
        for (name, hook, calls) in ENTRIES {
            let Some(function) = elf.function(name) else {
                if name == "__vdso_clock_gettime" {
                    return Err(Error::refused("this kernel's vDSO has no __vdso_clock_gettime"));
                }
                continue;
            };
            let displaced = displaced(&self.bytes, 64, name, function)?;
            let at = addition.align();
            let (code, moved) = trampoline(name, &displaced, at)?;
            addition.bytes.extend(code);
            trampolines.push((name, at));
            displacements.push(Displacement { entry: function.value, moved });
            let host = trampolines.iter().find(|(name, _)| *name == calls).map(|(_, at)| *at);
            let host = host.ok_or_else(|| Error::refused(format!("this kernel's vDSO has no {calls}")))?;
            let at = addition.align();
            addition.bytes.extend(thunk(at, host, IMAGE_ADDRESS + hook));
            jumps.push((function.value as usize, displaced.length, at));
        }
        for &(entry, length, thunk) in &jumps {
            patched[entry] = 0xe9;
            patched[entry + 1..entry + JUMP_LEN].copy_from_slice(&relative(entry as u64 + 5, thunk));
            // Nothing arrives behind the jump; if it did, a trap is better than half an instruction.
            patched[entry + JUMP_LEN..entry + length].fill(0xcc);
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
            stub,
            host_clock: trampolines.first().map_or(0, |(_, at)| *at),
            displacements,
        })
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
    /// Adds everything but the jumps to a process that has just started and whose vDSO nobody has touched: until
    /// an entry is redirected, what is added is dead code.
    ///
    /// # Errors
    /// Where that vDSO is not the one that the patch is for, or memory cannot be written. The caller must not let
    /// the process run on then.
    pub(crate) fn prepare(&self, memory: &RemoteMemory, vdso: RemoteAddr) -> Result<()> {
        let mut found = vec![0; self.original.len()];
        memory.read(vdso, &mut found)?;
        if found != self.original {
            return Err(Error::refused(format!("the vDSO of process {} is not the kernel's", memory.tid().0)));
        }
        memory.write(vdso.plus(self.addition.offset as u64), &self.addition.bytes)
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
    pub(crate) fn restore(&self, memory: &RemoteMemory, vdso: RemoteAddr) -> Result<()> {
        let Span { offset, bytes } = &self.entries;
        memory.write(vdso.plus(*offset as u64), &self.original[*offset..offset + bytes.len()])
    }

    /// Removes what has been added to a process in which nothing leads there.
    ///
    /// # Errors
    /// Where memory cannot be written.
    pub(crate) fn remove(&self, memory: &RemoteMemory, vdso: RemoteAddr) -> Result<()> {
        let Span { offset, bytes } = &self.addition;
        memory.write(vdso.plus(*offset as u64), &vec![0; bytes.len()])
    }

    /// Where a thread is to go on that was about to execute a displaced instruction; `None` for one elsewhere.
    pub(crate) fn moved(&self, vdso: RemoteAddr, rip: u64) -> Option<u64> {
        let offset = rip.wrapping_sub(vdso.0);
        let mut moved = self.displacements.iter().flat_map(|displacement| &displacement.moved);
        moved.find(|(from, _)| *from == offset).map(|(_, to)| vdso.plus(*to).0)
    }

    /// Whether an address lies within one of the entries' displaced instructions, behind its first byte.
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
    pub(crate) fn rest(&self, vdso: RemoteAddr) -> (RemoteAddr, usize) {
        let used = self.addition.offset + self.addition.bytes.len();
        (vdso.plus(used as u64), self.original.len() - used)
    }

    /// What the image is told in a process whose vDSO lies there.
    pub(crate) fn boot(&self, vdso: RemoteAddr, terms: &Terms) -> Boot {
        terms.boot(vdso, self.original.len(), vdso.plus(self.host_clock).0, ABI_X86_64)
    }

    /// Whether a process whose vDSO lies there has been patched already.
    pub(crate) fn is_applied(&self, memory: &RemoteMemory, vdso: RemoteAddr) -> bool {
        let mut mark = [0; 8];
        memory.read(vdso.plus(self.addition.offset as u64), &mut mark).is_ok() && mark == MARK.to_le_bytes()
    }

    /// How many bytes are added to the vDSO.
    pub fn added_bytes(&self) -> usize {
        self.addition.bytes.len()
    }
}

/// The whole instructions at an entry that a jump displaces.
pub(crate) struct Displaced {
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) length: usize,
    resume: u64,
}

/// Decodes what the jump will displace, and makes sure that the function never jumps back into it.
///
/// # Errors
/// Where it is too short, or does.
pub(crate) fn displaced(image: &[u8], bitness: u32, name: &str, function: Symbol<'_>) -> Result<Displaced> {
    let refuse = |why: &str| Error::refused(format!("{name} of this kernel's vDSO cannot be redirected: {why}"));
    let (entry, base) = (function.value, base(bitness));
    let code = usize::try_from(entry)
        .ok()
        .and_then(|start| image.get(start..start.checked_add(usize::try_from(function.size).ok()?)?))
        .ok_or_else(|| refuse("it lies outside the image"))?;
    let instructions: Vec<Instruction> =
        Decoder::with_ip(bitness, code, base + entry, DecoderOptions::NONE).into_iter().collect();
    let mut length = 0;
    let mut count = 0;
    while length < JUMP_LEN {
        let instruction = instructions.get(count).filter(|instruction| !instruction.is_invalid());
        let instruction = instruction.ok_or_else(|| refuse("it is shorter than a jump"))?;
        length += instruction.len();
        count += 1;
        let ends = matches!(instruction.flow_control(), FlowControl::Return | FlowControl::UnconditionalBranch);
        if ends && length < JUMP_LEN {
            return Err(refuse("it is shorter than a jump"));
        }
    }
    let inside = base + entry + 1..base + entry + length as u64;
    if instructions.iter().any(|instruction| inside.contains(&instruction.near_branch_target())) {
        return Err(refuse("it jumps back into its first instructions"));
    }
    Ok(Displaced { instructions: instructions[..count].to_vec(), length, resume: base + entry + length as u64 })
}

/// Where the vDSO is imagined to lie while code is relocated: everything is relative to it.
const BASE: u64 = 0x7000_0000_0000;

/// The same for 32-bit code, where an address is an offset.
const fn base(bitness: u32) -> u64 {
    if bitness == 64 { BASE } else { 0 }
}

/// The displaced instructions at a new place, followed by a jump to the rest of the function; and where each of them but
/// the first was and is, as offsets in the vDSO.
fn trampoline(name: &str, displaced: &Displaced, at: u64) -> Result<(Vec<u8>, Moved)> {
    let mut instructions = displaced.instructions.clone();
    let jump = Instruction::with_branch(iced_x86::Code::Jmp_rel32_64, displaced.resume);
    let failed =
        |error: iced_x86::IcedError| Error::refused(format!("relocate the first instructions of {name}: {error}"));
    instructions.push(jump.map_err(failed)?);
    let block = InstructionBlock::new(&instructions, BASE + at);
    let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let encoded = BlockEncoder::encode(64, block, options).map_err(failed)?;
    let places = displaced.instructions.iter().zip(&encoded.new_instruction_offsets);
    let moved = places.skip(1).map(|(old, new)| (old.ip() - BASE, at + u64::from(*new))).collect();
    Ok((encoded.code_buffer, moved))
}

/// `lea rdx, [rip + host]; jmp [rip]; .quad image`: the third argument is the host's function.
fn thunk(at: u64, host: u64, image: u64) -> Vec<u8> {
    let mut code = vec![0x48, 0x8d, 0x15];
    code.extend(relative(at + 7, host));
    code.extend([0xff, 0x25, 0, 0, 0, 0]);
    code.extend(image.to_le_bytes());
    code
}

/// The displacement from the end of an instruction to its target, both within the vDSO.
pub(crate) fn relative(from: u64, to: u64) -> [u8; 4] {
    (to.wrapping_sub(from) as i32).to_le_bytes()
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

    fn function(value: u64, size: u64) -> Symbol<'static> {
        Symbol { name: b"f", kind: elf::STT_FUNC, section: 1, value, size }
    }

    #[test]
    fn short_branches_in_displaced_instructions_are_widened() {
        // cmp edi, 23; ja +103: the branch is inside the bytes that a jump displaces.
        let mut image = vec![0x90; 256];
        image[16..21].copy_from_slice(&[0x83, 0xff, 0x17, 0x77, 0x67]);
        let displaced = displaced(&image, 64, "f", function(16, 127)).unwrap();
        assert_eq!(displaced.length, 5);
        let (code, moved) = trampoline("f", &displaced, 0x1000).unwrap();
        assert_eq!(moved, [(19, 0x1003)]);
        let decoded: Vec<_> = Decoder::with_ip(64, &code, BASE + 0x1000, DecoderOptions::NONE).into_iter().collect();
        assert_eq!(decoded[1].near_branch_target(), BASE + 16 + 5 + 103);
        assert_eq!(decoded[2].near_branch_target(), BASE + 21);
    }

    #[test]
    fn a_function_that_loops_to_its_start_is_refused() {
        // xor eax, eax; nop; nop; nop; jmp to the first nop.
        let image = [0x31, 0xc0, 0x90, 0x90, 0x90, 0xeb, 0xfb, 0x90];
        assert!(displaced(&image, 64, "f", function(0, 8)).err().unwrap().to_string().contains("jumps back"));
        // ret: shorter than a jump.
        assert!(
            displaced(&[0xc3, 0x90, 0x90, 0x90, 0x90], 64, "f", function(0, 5))
                .err()
                .unwrap()
                .to_string()
                .contains("shorter")
        );
    }
}
