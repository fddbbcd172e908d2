//! System calls of the C library that lead to the gate without a trap.
//!
//! A trap costs microseconds, and every shell, thread and spawned process sets signal masks and actions. When a
//! program is entered, its C library is mapped and it is single-threaded; so the few `syscall` instructions that set
//! masks and actions, read clocks by number, or make any call (`syscall(3)`) are replaced, in that process's own
//! copy of the page, by a jump to the gate. What cannot be replaced safely is left to the filter.
//!
//! A site is an instruction that a jump fits into, followed by `syscall`:
//!
//! ```text
//! mov eax, 13     becomes    jmp the site's stub
//! syscall                    jmp back to the line above
//! ```
//!
//! The second jump is for those that arrive at the `syscall` itself: the kernel, which restarts a call there.
//! The stub executes the first instruction and enters the gate, with the address behind the site in rcx and, where the
//! number can be any, in r11 that of a `syscall` of its own, for calls that are none of ours. Where the compiler has put
//! the loading of the second argument between the two, that is the instruction, as the start of threads has it:
//!
//! ```text
//! mov eax, 14               stays
//! lea rsi, [rbx + 0x8f0]    becomes    jmp the site's stub
//! syscall                              jmp back to the line above
//! ```

use crate::error::Result;
use crate::page::IMAGE_ADDRESS;
use crate::remote::{RemoteAddr, RemoteMemory};
use elsewhen_vdso::image;
use iced_x86::{Decoder, DecoderOptions, Instruction};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};

/// The bytes of a first instruction that names the call, or loads its last argument.
const FIRST_LEN: usize = 5;
/// The bytes of the loading of an address.
const LEA_LEN: usize = 7;
/// The bytes of a stub, but for the site's first instruction and for a `syscall` of its own.
const STUB_LEN: usize = 12;
/// The bytes of that, with what goes with it.
const OWN_LEN: usize = 14;
/// The bytes of a near jump.
const JUMP_LEN: usize = 5;
/// The bytes of the jump to the gate that stubs share.
const SHARED_LEN: usize = 14;
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// The third byte of `lea rsi, [rip + …]`.
const LEA_RSI_RIP: u8 = 0x35;
/// `mov r9, [rsp + 8]`, the last instruction before the one of `syscall(3)`.
const LAST_ARGUMENT: [u8; FIRST_LEN] = [0x4c, 0x8b, 0x4c, 0x24, 0x08];
/// The calls whose sites are worth it. None of them is one at which a thread can be cancelled: a signal that does that must
/// find the thread at its own `syscall`, or in the gate.
const NUMBERS: [u32; 5] = [13, 14, 96, 201, 228];

/// The sites found so far, by file.
#[derive(Debug, Default)]
pub(crate) struct Sites(Mutex<HashMap<Text, Arc<[Group]>>>);

/// A mapping of a file's code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Text {
    /// Device, inode, and when it was last written.
    file: (u64, u64, i64, i64),
    start_offset: u64,
    len: usize,
}

/// A site, by its offset in the mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Site {
    offset: usize,
    /// The instruction before `syscall`.
    first: Vec<u8>,
    /// The one before that, where that is the one that says the number.
    number: Vec<u8>,
}

impl Site {
    /// Its bytes, with those of `syscall`.
    fn len(&self) -> usize {
        self.first.len() + SYSCALL.len()
    }

    /// Where it ends.
    fn end(&self) -> usize {
        self.offset + self.len()
    }

    /// Whether it makes calls of any number.
    fn is_for_any(&self) -> bool {
        self.first == LAST_ARGUMENT
    }

    /// Whether other code may jump to its first instruction: where that does not say the number, none may.
    fn may_be_jumped_to(&self) -> bool {
        self.first.len() != LEA_LEN
    }

    /// The bytes of its stub.
    fn stub_len(&self) -> usize {
        STUB_LEN + self.number.len() + self.first.len() + if self.is_for_any() { OWN_LEN } else { 0 }
    }

    /// The first instruction as it is to be at another place, with the same effect; `None` where it cannot be there.
    fn first_at(&self, own: u64, other: u64) -> Option<Vec<u8>> {
        let mut first = self.first.clone();
        if let [0x48, 0x8d, LEA_RSI_RIP, distance @ ..] = &mut first[..] {
            let from = i64::from(i32::from_le_bytes((&*distance).try_into().ok()?));
            let target = own.wrapping_add(LEA_LEN as u64).wrapping_add_signed(from);
            distance.copy_from_slice(&relative(other.wrapping_add(LEA_LEN as u64), target)?);
        }
        Some(first)
    }
}

/// Sites near each other, which are written together, with the code from the first to the last.
#[derive(Clone, Debug)]
struct Group {
    sites: Vec<Site>,
    code: Vec<u8>,
}

impl Group {
    fn start(&self) -> usize {
        self.sites.first().map_or(0, |site| site.offset)
    }
}

impl Sites {
    /// Sends the sites of a process's C library to the gate, with stubs at `free`, where `room` bytes can be had.
    ///
    /// The process must be single-threaded and not in its C library.
    ///
    /// # Errors
    /// Where memory cannot be written. The caller must not let the process run on then.
    pub(crate) fn redirect(&self, memory: &RemoteMemory, free: RemoteAddr, room: usize) -> Result<()> {
        let Some((start, text)) = library(memory) else { return Ok(()) };
        let groups = self.of(memory, start, &text);
        let mut stubs = far_jump(IMAGE_ADDRESS + image::HOOK_SITE).to_vec();
        let mut changed = Vec::new();
        for group in groups.iter() {
            let mut code = group.code.clone();
            for site in &group.sites {
                if stubs.len() + site.stub_len() > room {
                    break;
                }
                let at = site.offset - group.start();
                redirect_one(site, start, free, &mut stubs, &mut code[at..at + site.len()]);
            }
            changed.push((start.plus(group.start() as u64), code));
        }
        memory.write(free, &stubs)?;
        changed.iter().try_for_each(|(at, code)| memory.write(*at, code))
    }

    fn of(&self, memory: &RemoteMemory, start: RemoteAddr, text: &Text) -> Arc<[Group]> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(groups) = known.get(text) {
            return Arc::clone(groups);
        }
        let mut code = vec![0; text.len];
        let groups: Arc<[Group]> = match memory.read(start, &mut code) {
            Ok(()) => group(find(&code), &code).into(),
            Err(_) => Arc::new([]),
        };
        known.insert(text.clone(), Arc::clone(&groups));
        groups
    }
}

/// Makes a site's stub and the code that leads to it. A site out of reach stays as it is.
fn redirect_one(site: &Site, start: RemoteAddr, free: RemoteAddr, stubs: &mut Vec<u8>, code: &mut [u8]) {
    let at = start.plus(site.offset as u64);
    let (stub, behind) = (free.plus(stubs.len() as u64), at.plus(site.len() as u64));
    let own = if site.is_for_any() { LEA_LEN } else { 0 };
    let first_at = stub.plus((LEA_LEN + own + site.number.len()) as u64);
    let end = stub.plus(site.stub_len() as u64);
    let distances = (
        relative(at.0 + JUMP_LEN as u64, stub.0),
        relative(stub.0 + LEA_LEN as u64, behind.0),
        relative(end.0, behind.0),
        site.first_at(at.0, first_at.0),
    );
    let (Some(to_stub), Some(to_behind), Some(from_own), Some(first)) = distances else { return };
    // lea rcx, [behind]; maybe lea r11, [own]; the number, whoever comes; the first instruction; jmp to the shared jump.
    stubs.extend([0x48, 0x8d, 0x0d]);
    stubs.extend(to_behind);
    if site.is_for_any() {
        stubs.extend([0x4c, 0x8d, 0x1d]);
        stubs.extend((first.len() as i32 + JUMP_LEN as i32).to_le_bytes());
    }
    stubs.extend(&site.number);
    stubs.extend(first);
    stubs.push(0xe9);
    let back = -(stubs.len() as i32 + 4);
    stubs.extend(back.to_le_bytes());
    if site.is_for_any() {
        // own: syscall; jmp behind.
        stubs.extend(SYSCALL);
        stubs.push(0xe9);
        stubs.extend(from_own);
    }
    // jmp stub; nothing where that is shorter than the instruction was; jmp back to the first.
    code[..site.first.len()].fill(0xcc);
    code[0] = 0xe9;
    code[1..JUMP_LEN].copy_from_slice(&to_stub);
    code[site.first.len()..].copy_from_slice(&[0xeb, 0_u8.wrapping_sub(site.len() as u8)]);
}

/// Puts sites of one page together.
fn group(sites: Vec<Site>, code: &[u8]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for site in sites {
        let end = site.end();
        match groups.last_mut().filter(|group| (end - 1) / 4096 == group.start() / 4096) {
            Some(group) => {
                group.code.extend(&code[group.start() + group.code.len()..end]);
                group.sites.push(site);
            }
            None => groups.push(Group { code: code[site.offset..end].to_vec(), sites: vec![site] }),
        }
    }
    groups
}

/// The code of the process's C library, and what tells it from others.
fn library(memory: &RemoteMemory) -> Option<(RemoteAddr, Text)> {
    // In one piece, which a fresh program's mappings fit into.
    let mut maps = String::with_capacity(1 << 14);
    fs::File::open(format!("/proc/{}/maps", memory.tid().0)).ok()?.read_to_string(&mut maps).ok()?;
    maps.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (range, rights, offset) = (words.next()?, words.next()?, words.next()?);
        let path = words.nth(2)?;
        let name = path.rsplit('/').next()?;
        if rights != "r-xp"
            || !(name.starts_with("libc.so") || name.starts_with("libc-2.") || name.starts_with("ld-musl"))
        {
            return None;
        }
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (start, end) = (number(start)?, number(end)?);
        let len = usize::try_from(end.checked_sub(start)?).ok().filter(|len| *len < 1 << 26)?;
        let file = fs::metadata(format!("/proc/{}/root{path}", memory.tid().0)).ok()?;
        let file = (file.dev(), file.ino(), file.mtime(), file.mtime_nsec());
        Some((RemoteAddr(start), Text { file, start_offset: number(offset)?, len }))
    })
}

/// The sites of some code.
fn find(code: &[u8]) -> Vec<Site> {
    let mut sites = Vec::new();
    for (at, _) in code.windows(SYSCALL.len()).enumerate().filter(|(_, window)| **window == SYSCALL) {
        let before = |len: usize| at.checked_sub(len).map(|start| &code[start..at]);
        let names = |bytes: &[u8]| match bytes {
            [0xb8, number @ ..] => number.try_into().is_ok_and(|number| NUMBERS.contains(&u32::from_le_bytes(number))),
            _ => false,
        };
        let is_first = |first: &&[u8]| **first == LAST_ARGUMENT || names(first);
        // Neither rcx nor r11, which a stub has for itself, and not rsi, which would be another the second time.
        let is_lea = |lea: &&[u8]| matches!(lea, [0x48, 0x8d, LEA_RSI_RIP | 0xb2 | 0xb3 | 0xb5 | 0xb7, ..]);
        let named =
            |lea: &&[u8]| is_lea(lea) && before(LEA_LEN + FIRST_LEN).is_some_and(|code| names(&code[..FIRST_LEN]));
        let first = before(FIRST_LEN).filter(is_first).or_else(|| before(LEA_LEN).filter(named));
        sites.extend(first.map(|first| {
            let offset = at - first.len();
            let number = if first.len() == LEA_LEN { &code[offset - FIRST_LEN..offset] } else { &[] };
            Site { offset, first: first.to_vec(), number: number.to_vec() }
        }));
    }
    without_targets(code, sites)
}

/// Leaves out sites into which something may jump.
///
/// Far jumps may come from anywhere, so whatever reads as one counts. Near jumps are too short for that, and are
/// looked for among the instructions around the site.
fn without_targets(code: &[u8], mut sites: Vec<Site>) -> Vec<Site> {
    let mut inside = vec![false; code.len()];
    for site in &sites {
        inside[site.offset..site.end()].fill(true);
    }
    let mut hit = HashSet::new();
    for at in 1..code.len().saturating_sub(4) {
        let conditional = matches!(code[at - 1], 0x80..=0x8f) && at > 1 && code[at - 2] == 0x0f;
        let is_jump = conditional || matches!(code[at - 1], 0xe8 | 0xe9);
        let distance = i32::from_le_bytes([code[at], code[at + 1], code[at + 2], code[at + 3]]);
        if let Ok(target) = usize::try_from(at as i64 + 4 + i64::from(distance))
            && is_jump
            && inside.get(target) == Some(&true)
        {
            hit.insert(target);
        }
    }
    sites.retain(|site| near_targets(code, site).map(|targets| hit.extend(targets)).is_some());
    sites.retain(|site| {
        let first = site.offset + usize::from(site.may_be_jumped_to());
        !(first..site.end()).any(|target| hit.contains(&target))
    });
    sites
}

/// Where the instructions within reach of a short jump to a site jump to.
///
/// Where instructions begin is not known, so decoding starts at several places far enough ahead; whatever way of
/// reading the code has the site as an instruction counts. `None` where none has.
fn near_targets(code: &[u8], site: &Site) -> Option<Vec<usize>> {
    const REACH: usize = 130;
    const AHEAD: usize = 64;
    let end = (site.end() + REACH).min(code.len());
    let first = site.offset.saturating_sub(REACH + AHEAD);
    let mut targets: Option<Vec<usize>> = None;
    for start in first..(first + 16).min(site.offset) {
        let decoder = Decoder::with_ip(64, &code[start..end], start as u64, DecoderOptions::NONE);
        let instructions: Vec<Instruction> = decoder.into_iter().collect();
        if instructions.iter().any(|instruction| instruction.ip() == site.offset as u64) {
            let near = instructions.iter().map(Instruction::near_branch_target).filter(|target| *target != 0);
            targets.get_or_insert_default().extend(near.filter_map(|target| usize::try_from(target).ok()));
        }
    }
    targets
}

/// `jmp [rip]; .quad to`.
fn far_jump(to: u64) -> [u8; SHARED_LEN] {
    let mut code = [0xff, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    code[6..].copy_from_slice(&to.to_le_bytes());
    code
}

/// The distance from the end of an instruction to its target, where it fits.
fn relative(from: u64, to: u64) -> Option<[u8; 4]> {
    i32::try_from(to.wrapping_sub(from) as i64).ok().map(i32::to_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGACTION: [u8; 7] = [0xb8, 13, 0, 0, 0, 0x0f, 0x05];
    const SITE_LEN: usize = SIGACTION.len();
    /// mov eax, 14; lea rsi, [rbx + 0x8f0]; syscall
    const THREAD_MASK: [u8; 14] = [0xb8, 14, 0, 0, 0, 0x48, 0x8d, 0xb3, 0xf0, 8, 0, 0, 0x0f, 0x05];

    #[test]
    fn calls_of_known_numbers_and_of_any_are_found() {
        let mut code = vec![0x90; 64];
        code[8..15].copy_from_slice(&SIGACTION);
        code[24..31].copy_from_slice(&[0xb8, 39, 0, 0, 0, 0x0f, 0x05]);
        code[40..47].copy_from_slice(&[0x4c, 0x8b, 0x4c, 0x24, 0x08, 0x0f, 0x05]);
        assert_eq!(find(&code).iter().map(|site| site.offset).collect::<Vec<_>>(), [8, 40]);
    }

    #[test]
    fn sites_of_a_page_are_written_together_and_keep_what_lies_between() {
        let mut code = vec![0x90; 3 * 4096];
        for at in [10, 300, 5000] {
            code[at..at + SITE_LEN].copy_from_slice(&SIGACTION);
        }
        let groups = group(find(&code), &code);
        assert_eq!(groups.iter().map(|group| group.sites.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(groups[0].code, code[10..307]);
        let (mut stubs, mut changed) = (Vec::new(), groups[0].code.clone());
        let (start, free) = (RemoteAddr(0x7000_0000), RemoteAddr(0x7100_0000));
        redirect_one(&groups[0].sites[1], start, free, &mut stubs, &mut changed[290..297]);
        assert_eq!(stubs.len(), groups[0].sites[1].stub_len());
        assert_eq!(changed[..290], code[10..300], "nothing else changes");
        let decode =
            |code: &[u8], at| Decoder::with_ip(64, code, at, DecoderOptions::NONE).into_iter().collect::<Vec<_>>();
        let there = decode(&changed[290..], start.0 + 300);
        assert_eq!((there[0].near_branch_target(), there[1].near_branch_target()), (free.0, start.0 + 300));
        let stub = decode(&stubs, free.0);
        assert_eq!(stub[0].ip_rel_memory_address(), start.0 + 307);
        assert_eq!(stub.len(), 3, "no call of its own, since the number is known");
        // Where it is not, there is one.
        let any = Site { offset: 300, first: LAST_ARGUMENT.to_vec(), number: Vec::new() };
        let (mut stubs, mut any_code) = (Vec::new(), [0; SITE_LEN]);
        redirect_one(&any, start, free, &mut stubs, &mut any_code);
        let stub = decode(&stubs, free.0);
        assert_eq!(stub[1].ip_rel_memory_address(), stub[4].ip(), "its own syscall");
        assert_eq!(stub[5].near_branch_target(), start.0 + 307);
        // Out of reach: nothing happens.
        let (mut stubs, mut far) = (Vec::new(), changed.clone());
        redirect_one(&groups[0].sites[0], RemoteAddr(1 << 40), free, &mut stubs, &mut far[..7]);
        assert!(stubs.is_empty() && far == changed);
    }

    #[test]
    fn a_loading_between_number_and_call_is_what_is_replaced() {
        let mut code = vec![0x90; 64];
        code[8..22].copy_from_slice(&THREAD_MASK);
        // lea rsi, [rip + 0x1000]
        let mut absolute = THREAD_MASK;
        absolute[7..12].copy_from_slice(&[LEA_RSI_RIP, 0, 0x10, 0, 0]);
        code[32..46].copy_from_slice(&absolute);
        let sites = find(&code);
        assert_eq!(sites.iter().map(|site| (site.offset, site.len())).collect::<Vec<_>>(), [(13, 9), (37, 9)]);
        let (start, free) = (RemoteAddr(0x7000_0000), RemoteAddr(0x7100_0000));
        for site in &sites {
            let (mut stubs, mut changed) = (Vec::new(), code.clone());
            redirect_one(site, start, free, &mut stubs, &mut changed[site.offset..site.end()]);
            assert_eq!(changed[..site.offset], code[..site.offset], "the number is still loaded");
            assert_eq!(changed[site.end()..], code[site.end()..]);
            let at = start.0 + site.offset as u64;
            let decode = |code: &[u8], at| Decoder::with_ip(64, code, at, DecoderOptions::NONE).decode();
            assert_eq!(decode(&changed[site.offset..], at).near_branch_target(), free.0);
            assert_eq!(decode(&changed[site.end() - 2..], at + 7).near_branch_target(), at, "from the call itself");
            let before = decode(&code[site.offset..], at);
            assert_eq!(stubs[LEA_LEN..LEA_LEN + FIRST_LEN], THREAD_MASK[..FIRST_LEN]);
            let moved = decode(&stubs[LEA_LEN + FIRST_LEN..], free.0 + (LEA_LEN + FIRST_LEN) as u64);
            assert_eq!(moved.memory_displacement64(), before.memory_displacement64(), "the same address");
            assert_eq!((moved.op0_register(), moved.memory_base()), (before.op0_register(), before.memory_base()));
        }
        // Of rcx, r11 and rsi, and with another number before.
        for (at, byte) in [(7, 0xb1), (5, 0x49), (7, 0xb6), (1, 39)] {
            let mut code = vec![0x90; 64];
            code[8..22].copy_from_slice(&THREAD_MASK);
            code[8 + at] = byte;
            assert!(find(&code).is_empty(), "{code:x?}");
        }
    }

    #[test]
    fn a_site_that_is_jumped_into_is_left_alone() {
        for (jump, at) in [(vec![0xeb, 10], 1), (vec![0xe9, 7, 0, 0, 0], 1), (vec![0x75, (-20i8) as u8], 31)] {
            let mut code = vec![0x90; 64];
            code[8..15].copy_from_slice(&SIGACTION);
            assert_eq!(find(&code).len(), 1);
            code[at..at + jump.len()].copy_from_slice(&jump);
            assert!(find(&code).is_empty(), "{jump:x?}");
        }
        // To the first byte of a loading, which does not say the number.
        let mut code = vec![0x90; 64];
        code[8..22].copy_from_slice(&THREAD_MASK);
        code[1..3].copy_from_slice(&[0xeb, 10]);
        assert!(find(&code).is_empty());
        // To its first byte is no harm.
        let mut code = vec![0x90; 64];
        code[8..15].copy_from_slice(&SIGACTION);
        code[1..3].copy_from_slice(&[0xeb, 5]);
        assert_eq!(find(&code).len(), 1);
    }
}
