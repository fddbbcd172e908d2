//! System calls of the C library that lead to the gate without a trap.
//!
//! A trap costs microseconds, and every shell, thread and spawned process sets signal masks and actions. When a
//! program is entered, its C library is mapped and it is single-threaded; so the few `syscall` instructions that set
//! masks and actions, read clocks by number, or make any call (`syscall(3)`) are replaced, in that process's own
//! copy of the page, by a jump to the gate. What cannot be replaced safely is left to the filter.
//!
//! A site is an instruction of five bytes that does not depend on its place, followed by `syscall`:
//!
//! ```text
//! mov eax, 13     becomes    jmp the site's stub
//! syscall                    jmp back to the line above
//! ```
//!
//! The second jump is for those that arrive at the `syscall` itself: the kernel, which restarts a call there.
//! The stub executes the first instruction and enters the gate, with the address behind the site in rcx and, in r11,
//! that of a `syscall` of its own, for calls that are none of ours.

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

/// The bytes of a site.
const SITE_LEN: usize = 7;
/// The bytes of its first instruction.
const FIRST_LEN: usize = 5;
/// The bytes of a site's stub.
const STUB_LEN: usize = 31;
/// The bytes of the loading of an address.
const LEA_LEN: usize = 7;
/// The bytes of a near jump.
const JUMP_LEN: usize = 5;
/// The bytes of the jump to the gate that stubs share.
const SHARED_LEN: usize = 14;
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// `mov r9, [rsp + 8]`, the last instruction before the one of `syscall(3)`.
const LAST_ARGUMENT: [u8; FIRST_LEN] = [0x4c, 0x8b, 0x4c, 0x24, 0x08];
/// The calls whose sites are worth it.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Site {
    offset: usize,
    first: [u8; FIRST_LEN],
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
                if stubs.len() + STUB_LEN > room {
                    break;
                }
                let at = site.offset - group.start();
                redirect_one(site, start, free, &mut stubs, &mut code[at..at + SITE_LEN]);
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
    let (stub, behind) = (free.plus(stubs.len() as u64), at.plus(SITE_LEN as u64));
    let end = stub.plus(STUB_LEN as u64);
    let distances = (
        relative(at.0 + JUMP_LEN as u64, stub.0),
        relative(stub.0 + LEA_LEN as u64, behind.0),
        relative(end.0, behind.0),
    );
    let (Some(to_stub), Some(to_behind), Some(from_own)) = distances else { return };
    // lea rcx, [behind]; lea r11, [own]; the first instruction; jmp to the shared jump.
    stubs.extend([0x48, 0x8d, 0x0d]);
    stubs.extend(to_behind);
    stubs.extend([0x4c, 0x8d, 0x1d]);
    stubs.extend((FIRST_LEN as i32 + JUMP_LEN as i32).to_le_bytes());
    stubs.extend(site.first);
    stubs.push(0xe9);
    let back = -(stubs.len() as i32 + 4);
    stubs.extend(back.to_le_bytes());
    // own: syscall; jmp behind.
    stubs.extend(SYSCALL);
    stubs.push(0xe9);
    stubs.extend(from_own);
    // jmp stub; jmp back to that.
    code[0] = 0xe9;
    code[1..JUMP_LEN].copy_from_slice(&to_stub);
    code[JUMP_LEN..].copy_from_slice(&[0xeb, 0xf9]);
}

/// Puts sites of one page together.
fn group(sites: Vec<Site>, code: &[u8]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for site in sites {
        let end = site.offset + SITE_LEN;
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
    for (at, window) in code.windows(SITE_LEN).enumerate() {
        if window[FIRST_LEN..] != SYSCALL {
            continue;
        }
        let mut first = [0; FIRST_LEN];
        first.copy_from_slice(&window[..FIRST_LEN]);
        let number = u32::from_le_bytes([first[1], first[2], first[3], first[4]]);
        if first == LAST_ARGUMENT || (first[0] == 0xb8 && NUMBERS.contains(&number)) {
            sites.push(Site { offset: at, first });
        }
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
        inside[site.offset + 1..site.offset + SITE_LEN].fill(true);
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
    for site in &sites {
        hit.extend(near_targets(code, site.offset));
    }
    sites.retain(|site| !(site.offset + 1..site.offset + SITE_LEN).any(|target| hit.contains(&target)));
    sites
}

/// Where the instructions within reach of a short jump to a site jump to.
///
/// Where instructions begin is not known, so decoding starts at several places far enough ahead; whatever way of
/// reading the code has the site as an instruction counts.
fn near_targets(code: &[u8], site: usize) -> Vec<usize> {
    const REACH: usize = 130;
    const AHEAD: usize = 64;
    let end = (site + SITE_LEN + REACH).min(code.len());
    let first = site.saturating_sub(REACH + AHEAD);
    let mut targets = Vec::new();
    for start in first..(first + 16).min(site) {
        let decoder = Decoder::with_ip(64, &code[start..end], start as u64, DecoderOptions::NONE);
        let instructions: Vec<Instruction> = decoder.into_iter().collect();
        if instructions.iter().any(|instruction| instruction.ip() == site as u64) {
            let near = instructions.iter().map(Instruction::near_branch_target).filter(|target| *target != 0);
            targets.extend(near.filter_map(|target| usize::try_from(target).ok()));
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

    const SIGACTION: [u8; SITE_LEN] = [0xb8, 13, 0, 0, 0, 0x0f, 0x05];

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
        assert_eq!(stubs.len(), STUB_LEN);
        assert_eq!(changed[..290], code[10..300], "nothing else changes");
        let decode =
            |code: &[u8], at| Decoder::with_ip(64, code, at, DecoderOptions::NONE).into_iter().collect::<Vec<_>>();
        let there = decode(&changed[290..], start.0 + 300);
        assert_eq!((there[0].near_branch_target(), there[1].near_branch_target()), (free.0, start.0 + 300));
        let stub = decode(&stubs, free.0);
        assert_eq!(stub[0].ip_rel_memory_address(), start.0 + 307);
        assert_eq!(stub[1].ip_rel_memory_address(), stub[4].ip(), "its own syscall");
        assert_eq!(stub[5].near_branch_target(), start.0 + 307);
        // Out of reach: nothing happens.
        let (mut stubs, mut far) = (Vec::new(), changed.clone());
        redirect_one(&groups[0].sites[0], RemoteAddr(1 << 40), free, &mut stubs, &mut far[..7]);
        assert!(stubs.is_empty() && far == changed);
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
        // To its first byte is no harm.
        let mut code = vec![0x90; 64];
        code[8..15].copy_from_slice(&SIGACTION);
        code[1..3].copy_from_slice(&[0xeb, 5]);
        assert_eq!(find(&code).len(), 1);
    }
}
