//! The entries of the 32-bit vDSO, turned towards the image.
//!
//! As [`redirect`] has it, with less room: the unused end of the vDSO does not hold all that is added. But
//! of the functions that are redirected only two are ever called again, `clock_gettime64` and `clock_getres`, from which the
//! image has all the others. So the body of `clock_gettime` is dead, and what is added lies there first.
//!
//! This process is a 64-bit one, and has no such vDSO: the kernel's is read from the first 32-bit program that there is.

use crate::entries::{Displaced, JUMP_LEN, displaced_of, relative};
use crate::error::{Error, Result};
use crate::page::{IMAGE_ADDRESS, PAGE_ADDRESS};
use crate::redirect::{self, MARK, Other, Terms};
use crate::remote::{RemoteAddr, RemoteMemory};
use crate::stub;
use elsewhen_vdso::elf::{Elf, STT_FUNC, Symbol};
use elsewhen_vdso::image;
use elsewhen_vdso::state::{ABI_I386, Boot};
use iced_x86::{BlockEncoder, BlockEncoderOptions, Decoder, DecoderOptions, FlowControl, InstructionBlock};
use std::ops::Range;

const CLOCK_GETTIME64: &str = "__vdso_clock_gettime64";
const CLOCK_GETTIME: &str = "__vdso_clock_gettime";
const CLOCK_GETRES: &str = "__vdso_clock_getres";
const CLOCK_GETRES_TIME64: &str = "__vdso_clock_getres_time64";

/// The functions that are redirected, the hook of each, and whose original code the hook calls.
const ENTRIES: [(&str, u64, &str); 5] = [
    (CLOCK_GETTIME64, image::HOOK_CLOCK_GETTIME64_32, CLOCK_GETTIME64),
    (CLOCK_GETTIME, image::HOOK_CLOCK_GETTIME_32, CLOCK_GETTIME64),
    ("__vdso_gettimeofday", image::HOOK_GETTIMEOFDAY_32, CLOCK_GETTIME64),
    ("__vdso_time", image::HOOK_TIME_32, CLOCK_GETTIME64),
    (CLOCK_GETRES, image::HOOK_CLOCK_GETRES_32, CLOCK_GETRES),
];

/// `push ebx; mov ebx, [esp + 8]; mov ecx, [esp + 12]; mov eax, 406; int 0x80; pop ebx; ret`: `clock_getres_time64` as a
/// system call.
const GETRES_TIME64: [u8; 18] =
    [0x53, 0x8b, 0x5c, 0x24, 8, 0x8b, 0x4c, 0x24, 12, 0xb8, 0x96, 1, 0, 0, 0xcd, 0x80, 0x5b, 0xc3];

/// What to write into the vDSO of a 32-bit member.
#[derive(Debug)]
pub(crate) struct Patch32 {
    original: Vec<u8>,
    /// From the first byte that is changed to the last.
    changed: Range<usize>,
    patched: Vec<u8>,
    /// What in it goes by where the vDSO lies.
    references: Vec<Reference>,
    stub: u64,
}

/// Four bytes that go by where a vDSO lies: 32-bit code cannot refer to what is near by the instruction pointer.
#[derive(Clone, Copy, Debug)]
struct Reference {
    /// Where they are in it.
    at: u64,
    /// Whether they are an address in it; else a distance from there to elsewhere.
    is_address: bool,
}

impl Reference {
    const fn address(at: u64) -> Self {
        Self { at, is_address: true }
    }

    const fn distance(at: u64) -> Self {
        Self { at, is_address: false }
    }

    /// What is there in a vDSO at an address, given what is there in one at 0.
    const fn resolve(self, word: u32, vdso: RemoteAddr) -> u32 {
        let base = vdso.0 as u32;
        if self.is_address { word.wrapping_add(base) } else { word.wrapping_sub(base) }
    }
}

impl Other for Patch32 {
    fn of(original: Vec<u8>) -> Result<Self> {
        Self::new(original)
    }

    fn original(&self) -> &[u8] {
        &self.original
    }
}

impl Patch32 {
    /// Computes the patch of a vDSO.
    ///
    /// # Errors
    /// Where it lacks a function, an entry cannot be redirected, or there is no room.
    fn new(original: Vec<u8>) -> Result<Self> {
        let elf = Elf::i386(&original).ok_or_else(|| refused("is not an ELF image"))?;
        let missing = |name: &str| refused(format!("has no {name}"));
        let function = |name: &str| elf.function(name);
        let dead = function(CLOCK_GETTIME).ok_or_else(|| missing(CLOCK_GETTIME))?;
        let mut patched = Patched::new(elf, dead)?;
        check_ways_in(elf, &[function(CLOCK_GETTIME), function(CLOCK_GETRES_TIME64)])?;
        let stub = patched.add(stub::code_32())?;
        patched.add(&MARK.to_le_bytes())?;
        let mut hosts = Vec::new();
        for (name, hook, calls) in ENTRIES {
            let Some(entry) = function(name) else {
                if name == CLOCK_GETTIME64 {
                    return Err(missing(name));
                }
                continue;
            };
            let mut length = JUMP_LEN;
            if name == calls {
                let displaced = displaced_of(&original, 32, name, entry)?;
                length = displaced.length;
                let at = patched.place(TRAMPOLINE_ROOM)?;
                let (code, references) = trampoline(&original, name, &displaced, at)?;
                patched.references.extend(references);
                if code.len() > TRAMPOLINE_ROOM {
                    return Err(refused(format!("has a {name} that begins with too much")));
                }
                patched.write(at, &code);
                hosts.push((name, at));
            } else if entry.size < JUMP_LEN as u64 {
                return Err(refused(format!("has a {name} that is shorter than a jump")));
            }
            let host = hosts.iter().find(|(name, _)| *name == calls).map(|(_, at)| *at);
            let host = host.ok_or_else(|| missing(calls))?;
            let at = patched.place(THUNK_LEN)?;
            patched.write(at, &thunk(at, host, IMAGE_ADDRESS + hook));
            patched.references.extend([Reference::address(at + 1), Reference::distance(at + 11)]);
            let mut jump = vec![0xe9];
            jump.extend(relative(entry.value + JUMP_LEN as u64, at));
            // Nothing arrives behind the jump; if it did, a trap is better than half an instruction.
            jump.resize(length, 0xcc);
            patched.write(entry.value, &jump);
        }
        if let Some(getres) = function(CLOCK_GETRES_TIME64) {
            if getres.size < GETRES_TIME64.len() as u64 {
                return Err(refused(format!("has a {CLOCK_GETRES_TIME64} that is shorter than a system call")));
            }
            patched.write(getres.value, &GETRES_TIME64);
        }
        let Patched { bytes: patched, references, .. } = patched;
        let differs = |at: &usize| original[*at] != patched[*at];
        let first = (0..original.len()).find(differs).unwrap_or(0);
        let last = (0..original.len()).rfind(differs).unwrap_or(0);
        Ok(Self { changed: first..last + 1, patched, references, original, stub })
    }

    /// Redirects the entries of a process that has just been [found](Known::look) to have this vDSO as the kernel made it.
    ///
    /// # Errors
    /// Where memory cannot be written. The caller must not let the process run on then.
    pub(crate) fn prepare(&self, memory: &RemoteMemory, vdso: RemoteAddr) -> Result<()> {
        memory.write(vdso.plus(self.changed.start as u64), &self.at(vdso)[self.changed.clone()])
    }

    /// What a vDSO becomes that lies there.
    fn at(&self, vdso: RemoteAddr) -> Vec<u8> {
        let mut bytes = self.patched.clone();
        for reference in &self.references {
            let place = &mut bytes[reference.at as usize..][..4];
            let word = place.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
            place.copy_from_slice(&reference.resolve(word, vdso).to_le_bytes());
        }
        bytes
    }

    /// Where the stub lies in a patched process.
    pub(crate) const fn stub(&self, vdso: RemoteAddr) -> RemoteAddr {
        vdso.plus(self.stub)
    }

    /// What the image is told in a process whose vDSO lies there.
    pub(crate) fn boot(&self, vdso: RemoteAddr, terms: &Terms) -> Boot {
        // Its host's function is 32-bit code, which only the hooks call.
        terms.boot(vdso, self.original.len(), 0, ABI_I386)
    }
}

fn refused(why: impl AsRef<str>) -> Error {
    Error::refused(format!("this kernel's vDSO for 32-bit programs {}", why.as_ref()))
}

/// A vDSO being patched.
struct Patched {
    bytes: Vec<u8>,
    references: Vec<Reference>,
    /// What is still free.
    room: [Range<u64>; 2],
}

impl Patched {
    /// `dead` is a function of which only the entry is needed.
    fn new(elf: Elf<'_>, dead: Symbol<'_>) -> Result<Self> {
        let bytes = elf.bytes().to_vec();
        let room = [dead.value + JUMP_LEN as u64..dead.value.saturating_add(dead.size), {
            redirect::used(elf) as u64..bytes.len() as u64
        }];
        if room[0].end > bytes.len() as u64 {
            return Err(refused(format!("has a {CLOCK_GETTIME} that lies outside")));
        }
        Ok(Self { bytes, references: Vec::new(), room })
    }

    /// Takes room, at a multiple of 16.
    fn place(&mut self, length: usize) -> Result<u64> {
        for room in &mut self.room {
            let start = room.start.next_multiple_of(16);
            if start + length as u64 <= room.end {
                room.start = start + length as u64;
                return Ok(start);
            }
        }
        let left: Vec<u64> = self.room.iter().map(|room| room.end.saturating_sub(room.start)).collect();
        Err(refused(format!("has no room for {length} bytes more, but {left:?}")))
    }

    fn write(&mut self, at: u64, code: &[u8]) {
        self.bytes[at as usize..at as usize + code.len()].copy_from_slice(code);
    }

    fn add(&mut self, code: &[u8]) -> Result<u64> {
        let at = self.place(code.len())?;
        self.write(at, code);
        Ok(at)
    }
}

/// Makes sure that nothing but the entry leads into functions that are overwritten.
fn check_ways_in(elf: Elf<'_>, overwritten: &[Option<Symbol<'_>>]) -> Result<()> {
    const EXECUTABLE: u64 = 4;
    let dead: Vec<(&[u8], Range<u64>)> = overwritten
        .iter()
        .flatten()
        .map(|function| (function.name, function.value..function.value.saturating_add(function.size)))
        .collect();
    let is_function = |symbol: &Symbol<'_>| symbol.kind == STT_FUNC && symbol.section != 0;
    let mut starts: Vec<u64> = elf.dynamic_symbols().filter(is_function).map(|function| function.value).collect();
    starts.extend(elf.sections().filter(|section| section.flags & EXECUTABLE != 0).map(|section| section.offset));
    starts.sort_unstable();
    for (at, start) in starts.iter().enumerate() {
        // Code without a symbol follows some function, in the same section.
        let section = elf.sections().find(|section| {
            section.flags & EXECUTABLE != 0
                && (section.offset..section.offset.saturating_add(section.size)).contains(start)
        });
        let Some(section) = section else { return Err(refused("has a function outside its code")) };
        let next = starts[at + 1..].iter().find(|next| *next != start).copied().unwrap_or(u64::MAX);
        let end = next.min(section.offset + section.size);
        let code = elf.slice(*start, end - start).ok_or_else(|| refused("is cut off"))?;
        for instruction in Decoder::with_ip(32, code, *start, DecoderOptions::NONE) {
            let (from, to) = (instruction.ip(), instruction.near_branch_target());
            let is_branch = matches!(
                instruction.flow_control(),
                FlowControl::Call | FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
            );
            let entered = dead.iter().find(|(_, body)| is_branch && !body.contains(&from) && body.contains(&to));
            if let Some((name, _)) = entered {
                let name = String::from_utf8_lossy(name);
                return Err(refused(format!("has code at {from:#x} that leads into {name}, which must not be needed")));
            }
        }
    }
    Ok(())
}

/// The displaced instructions at a new place, followed by a jump to the rest of the function; and which of it are references.
fn trampoline(image: &[u8], name: &str, displaced: &Displaced, at: u64) -> Result<(Vec<u8>, Vec<Reference>)> {
    let failed =
        |error: iced_x86::IcedError| Error::refused(format!("relocate the first instructions of {name}: {error}"));
    let (mut code, mut references) = (Vec::new(), Vec::new());
    let mut resume = 0;
    for instruction in &displaced.instructions {
        resume = instruction.next_ip();
        match instruction.flow_control() {
            FlowControl::Next => code.extend(&image[instruction.ip() as usize..instruction.next_ip() as usize]),
            FlowControl::Call if instruction.is_call_near() => {
                let register = register_with_address(image, instruction.near_branch_target()).ok_or_else(|| {
                    Error::refused(format!("relocate the first instructions of {name}: they call a function"))
                })?;
                // mov register, where it was called from
                code.push(0xb8 | register);
                references.push(Reference::address(at + code.len() as u64));
                code.extend((instruction.next_ip() as u32).to_le_bytes());
            }
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                let block = InstructionBlock::new(std::slice::from_ref(instruction), at + code.len() as u64);
                code.extend(BlockEncoder::encode(32, block, BlockEncoderOptions::NONE).map_err(failed)?.code_buffer);
            }
            _ => {
                return Err(Error::refused(format!(
                    "relocate the first instructions of {name}: one of them cannot be anywhere else"
                )));
            }
        }
    }
    code.push(0xe9);
    code.extend(relative(at + code.len() as u64 + 4, resume));
    Ok((code, references))
}

/// The number of the register in which a function returns the address that it was called from (`__x86.get_pc_thunk`).
fn register_with_address(image: &[u8], function: u64) -> Option<u8> {
    const ESP: u8 = 4;
    let start = usize::try_from(function).ok()?;
    // mov register, [esp]; ret
    let [0x8b, operands, 0x24, 0xc3] = *image.get(start..start.checked_add(4)?)? else { return None };
    let register = operands >> 3 & 7;
    (operands & 0xc7 == 0x04 && register != ESP).then_some(register)
}

/// How much room a [`trampoline`] gets.
const TRAMPOLINE_ROOM: usize = 48;

/// The bytes of [`thunk`].
const THUNK_LEN: usize = 15;

/// `mov eax, host; mov edx, page; jmp image`, in a vDSO at 0.
fn thunk(at: u64, host: u64, image: u64) -> [u8; THUNK_LEN] {
    let mut code = [0xb8, 0, 0, 0, 0, 0xba, 0, 0, 0, 0, 0xe9, 0, 0, 0, 0];
    code[1..5].copy_from_slice(&(host as u32).to_le_bytes());
    code[6..10].copy_from_slice(&(PAGE_ADDRESS as u32).to_le_bytes());
    code[11..15].copy_from_slice(&relative(at + THUNK_LEN as u64, image));
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redirect::{Found, Known};
    use crate::remote::{Abi, AuxVector, Tid};
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    /// A 32-bit program that waits for ever.
    struct Program(Child);

    impl Program {
        /// `None` where the kernel runs no 32-bit programs.
        fn start() -> Option<Self> {
            const AT: u32 = 0x804_8000;
            let mut file = vec![0_u8; 84];
            file[..7].copy_from_slice(b"\x7fELF\x01\x01\x01");
            file[16..20].copy_from_slice(&[2, 0, 3, 0]);
            // mov eax, 29; int 0x80; jmp to the first: pause(2).
            let code = [0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7];
            let words: [(usize, u32); 9] = [
                (20, 1),
                (24, AT + 84),
                (28, 52),
                (40, 32 << 16 | 52),
                (44, 1),
                (52, 1),
                (60, AT),
                (68, 84 + code.len() as u32),
                (72, 84 + code.len() as u32),
            ];
            words.iter().for_each(|(at, word)| file[*at..at + 4].copy_from_slice(&word.to_le_bytes()));
            file[76] = 5;
            file.extend(code);
            let path = std::env::temp_dir().join(format!("elsewhen-i386-{}", std::process::id()));
            std::fs::write(&path, file).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
            let child = Command::new(&path).stdin(Stdio::null()).spawn();
            std::fs::remove_file(&path).unwrap();
            match child {
                Ok(child) => {
                    let program = Self(child);
                    program.wait_until_it_waits();
                    Some(program)
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => None,
                Err(error) => panic!("{error}"),
            }
        }

        /// `spawn` returns when the child has a new address space, but not yet anything in it.
        fn wait_until_it_waits(&self) {
            let deadline = Instant::now() + Duration::from_secs(60);
            let call = format!("/proc/{}/syscall", self.0.id());
            while !std::fs::read_to_string(&call).unwrap().starts_with("29 ") {
                assert!(Instant::now() < deadline, "the program does not wait");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    impl Drop for Program {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn the_vdso_of_32_bit_programs_can_be_patched_once() {
        let Some(program) = Program::start() else {
            eprintln!("SKIP: this kernel runs no 32-bit programs");
            return;
        };
        let tid = Tid(program.0.id());
        let (abi, vdso) = AuxVector::of_with_vdso(tid).unwrap();
        assert_eq!(abi, Abi::I386);
        let memory = RemoteMemory::open(tid).unwrap();
        let known = Known::<Patch32>::default();
        let Found::Original(patch) = known.look(&memory, vdso).unwrap() else { panic!("patched already") };
        let Found::Original(again) = known.look(&memory, vdso).unwrap() else { panic!("patched already") };
        assert!(Arc::ptr_eq(&patch, &again));
        patch.prepare(&memory, vdso).unwrap();
        assert!(matches!(known.look(&memory, vdso).unwrap(), Found::Applied));
        let bytes = redirect::read_whole(&memory, vdso).unwrap();
        assert_eq!(bytes, patch.at(vdso));
        assert!(bytes[patch.stub as usize..].starts_with(stub::code_32()));
        // Every entry leads to its hook.
        let elf = Elf::i386(&bytes).unwrap();
        let decode = |at: u64| Decoder::with_ip(32, &bytes[(at - vdso.0) as usize..], at, DecoderOptions::NONE);
        for (name, hook, _) in ENTRIES {
            let Some(entry) = elf.function(name) else { continue };
            let thunk = decode(vdso.0 + entry.value).decode().near_branch_target();
            let instructions: Vec<_> = decode(thunk).into_iter().take(3).collect();
            let host = instructions[0].immediate(1) - vdso.0;
            assert!((host as usize) < bytes.len(), "{name}");
            assert_eq!(instructions[1].immediate(1), PAGE_ADDRESS, "{name}");
            assert_eq!(instructions[2].near_branch_target(), IMAGE_ADDRESS + hook, "{name}");
        }
    }

    /// What a function begins with: `call` of the thunk at 32, and what comes then.
    fn image(register: u8, first: &[u8]) -> Vec<u8> {
        let mut image = vec![0x90; 64];
        image[..first.len()].copy_from_slice(first);
        let to = 32 - (first.len() as u8 + 5);
        image[first.len()..][..5].copy_from_slice(&[0xe8, to, 0, 0, 0]);
        image[32..36].copy_from_slice(&[0x8b, 0x04 | register << 3, 0x24, 0xc3]);
        image
    }

    fn moved(image: &[u8]) -> Result<(Vec<u8>, Vec<Reference>)> {
        let function = Symbol { name: b"f", kind: STT_FUNC, section: 1, value: 0, size: 32 };
        trampoline(image, "f", &displaced_of(image, 32, "f", function)?, 0x1000)
    }

    #[test]
    fn displaced_code_that_asks_where_it_is_learns_where_it_was() {
        for register in [0, 3, 5, 7] {
            // push ebp; mov ebp, esp
            let first = [0x55, 0x89, 0xe5];
            let (code, references) = moved(&image(register, &first)).unwrap();
            assert_eq!(code[..3], first);
            let instructions: Vec<_> = Decoder::with_ip(32, &code[3..], 0x1003, 0).into_iter().collect();
            // mov register, 8; jmp 8
            assert_eq!((code[3], instructions[0].immediate(1)), (0xb8 | register, 8));
            assert_eq!(instructions[1].near_branch_target(), 8);
            let [reference] = references[..] else { panic!("{references:?}") };
            assert_eq!((reference.at, reference.resolve(8, RemoteAddr(0xf7f0_0000))), (0x1004, 0xf7f0_0008));
        }
    }

    #[test]
    fn displaced_code_that_calls_another_function_is_refused() {
        let mut image = image(0, &[]);
        image[32] = 0x90;
        assert!(moved(&image).unwrap_err().to_string().contains("call a function"));
    }

    #[test]
    fn a_branch_in_displaced_code_still_leads_where_it_led() {
        // test eax, eax; jz +20; nop
        let mut image = vec![0x90; 64];
        image[..4].copy_from_slice(&[0x85, 0xc0, 0x74, 20]);
        let (code, _) = moved(&image).unwrap();
        let instructions: Vec<_> = Decoder::with_ip(32, &code, 0x1000, 0).into_iter().collect();
        assert_eq!(instructions[1].near_branch_target(), 24);
        assert_eq!(instructions[3].near_branch_target(), 5);
    }
}
