//! Looks symbols of the image up the way each C library and runtime does, with versions.

#![expect(clippy::unwrap_used, reason = "a test ends where the image is not as it must be")]

use elsewhen_vdso::elf::{Elf, PT_DYNAMIC, SHT_DYNSYM};
use elsewhen_vdso::image::{HOOK_CLOCK_GETTIME, IMAGE};
use std::collections::BTreeMap;

/// The kernel's names on x86-64, which have aliases without prefix for old libcs.
#[cfg(target_arch = "x86_64")]
const NAMES: [&str; 5] = ["clock_gettime", "gettimeofday", "time", "getcpu", "clock_getres"];
/// And on arm64, which have none.
#[cfg(target_arch = "aarch64")]
const NAMES: [&str; 3] = ["clock_gettime", "gettimeofday", "clock_getres"];
/// What they begin with.
const PREFIX: &str = if cfg!(target_arch = "x86_64") { "__vdso_" } else { "__kernel_" };
/// Their version, and its `vd_hash`, as Go and the kernel's own parse_vdso.c compare it.
const VERSION: (&str, u32) =
    if cfg!(target_arch = "x86_64") { ("LINUX_2.6", 0x03ae_75f6) } else { ("LINUX_2.6.39", 0x075f_cb89) };

const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_SONAME: u64 = 14;
const DT_GNU_HASH: u64 = 0x6fff_fef5;
const DT_VERSYM: u64 = 0x6fff_fff0;
const DT_VERDEF: u64 = 0x6fff_fffc;

fn u16_at(at: u64) -> u16 {
    u16::from_le_bytes(IMAGE[at as usize..at as usize + 2].try_into().unwrap())
}
fn u32_at(at: u64) -> u32 {
    u32::from_le_bytes(IMAGE[at as usize..at as usize + 4].try_into().unwrap())
}
fn u64_at(at: u64) -> u64 {
    u64::from_le_bytes(IMAGE[at as usize..at as usize + 8].try_into().unwrap())
}
fn string_at(at: u64) -> &'static str {
    let rest = &IMAGE[at as usize..];
    std::str::from_utf8(&rest[..rest.iter().position(|byte| *byte == 0).unwrap()]).unwrap()
}

/// The dynamic section, found by its program header as every loader does.
fn dynamic() -> BTreeMap<u64, u64> {
    let segment = Elf::native(IMAGE).unwrap().segments().find(|segment| segment.kind == PT_DYNAMIC).unwrap();
    let entries = (segment.vaddr..segment.vaddr + segment.mem_size).step_by(16);
    entries.map(|at| (u64_at(at), u64_at(at + 8))).take_while(|(tag, _)| *tag != 0).collect()
}

fn elf_hash(name: &str) -> u32 {
    name.bytes().fold(0u32, |hash, byte| {
        let hash = (hash << 4).wrapping_add(byte.into());
        let high = hash & 0xf000_0000;
        (hash ^ high >> 24) & !high
    })
}

fn gnu_hash(name: &str) -> u32 {
    name.bytes().fold(5381, |hash, byte| hash.wrapping_mul(33).wrapping_add(byte.into()))
}

/// A symbol table entry as loaders read it.
struct Entry {
    name: &'static str,
    info: u8,
    section: u16,
    value: u64,
}

fn entry(dynamic: &BTreeMap<u64, u64>, index: u32) -> Entry {
    let at = dynamic[&DT_SYMTAB] + 24 * u64::from(index);
    Entry {
        name: string_at(dynamic[&DT_STRTAB] + u64::from(u32_at(at))),
        info: IMAGE[at as usize + 4],
        section: u16_at(at + 6),
        value: u64_at(at + 8),
    }
}

/// The version of a symbol: its name and hash, by DT_VERSYM and DT_VERDEF.
fn version(dynamic: &BTreeMap<u64, u64>, index: u32) -> (&'static str, u32) {
    let wanted = u16_at(dynamic[&DT_VERSYM] + 2 * u64::from(index)) & 0x7fff;
    let mut at = dynamic[&DT_VERDEF];
    loop {
        assert_eq!(u16_at(at), 1, "vd_version, which rustix checks");
        if u16_at(at + 4) & 0x7fff == wanted {
            let aux = at + u64::from(u32_at(at + 12));
            return (string_at(dynamic[&DT_STRTAB] + u64::from(u32_at(aux))), u32_at(at + 8));
        }
        let next = u32_at(at + 16);
        assert_ne!(next, 0, "version {wanted} is defined");
        at += u64::from(next);
    }
}

fn usable(found: &Entry, name: &str) -> bool {
    found.name == name && found.section != 0 && found.info & 0xf == 2 && matches!(found.info >> 4, 1 | 2)
}

/// glibc: the bloom filter, a bucket and a chain of DT_GNU_HASH, then the version.
fn as_glibc(name: &str, dynamic: &BTreeMap<u64, u64>) -> Option<u64> {
    let (table, hash) = (dynamic[&DT_GNU_HASH], gnu_hash(name));
    let (buckets, first, words, shift) = (u32_at(table), u32_at(table + 4), u32_at(table + 8), u32_at(table + 12));
    let word = u64_at(table + 16 + 8 * u64::from(hash / 64 % words));
    if word >> (hash % 64) & 1 == 0 || word >> ((hash >> shift) % 64) & 1 == 0 {
        return None;
    }
    let bucket_at = table + 16 + 8 * u64::from(words);
    let chain_at = bucket_at + 4 * u64::from(buckets);
    let mut index = u32_at(bucket_at + 4 * u64::from(hash % buckets));
    if index < first {
        return None;
    }
    loop {
        let chained = u32_at(chain_at + 4 * u64::from(index - first));
        let found = entry(dynamic, index);
        if (chained ^ hash) >> 1 == 0 && usable(&found, name) && version(dynamic, index) == VERSION {
            return Some(found.value);
        }
        if chained & 1 == 1 {
            return None;
        }
        index += 1;
    }
}

/// musl: every symbol that DT_HASH counts, in order, with the version's name.
fn as_musl(name: &str, dynamic: &BTreeMap<u64, u64>) -> Option<u64> {
    let count = u32_at(dynamic[&DT_HASH] + 4);
    (0..count).find_map(|index| {
        let found = entry(dynamic, index);
        (usable(&found, name) && version(dynamic, index).0 == VERSION.0).then_some(found.value)
    })
}

/// Go where it takes DT_HASH: bucket and chain, then the version's hash.
fn as_go(name: &str, dynamic: &BTreeMap<u64, u64>) -> Option<u64> {
    let table = dynamic[&DT_HASH];
    let buckets = u32_at(table);
    let mut index = u32_at(table + 8 + 4 * u64::from(elf_hash(name) % buckets));
    while index != 0 {
        let found = entry(dynamic, index);
        if usable(&found, name) && version(dynamic, index).1 == VERSION.1 {
            return Some(found.value);
        }
        index = u32_at(table + 8 + 4 * u64::from(buckets + index));
    }
    None
}

/// bionic: the section header of type SHT_DYNSYM, first match of the name, no version.
fn as_bionic(name: &str) -> Option<u64> {
    let elf = Elf::native(IMAGE).unwrap();
    assert!(elf.sections().any(|section| section.kind == SHT_DYNSYM));
    elf.dynamic_symbols().find(|symbol| symbol.name == name.as_bytes()).map(|symbol| symbol.value)
}

#[test]
fn every_consumer_finds_the_same_functions() {
    let dynamic = dynamic();
    for name in NAMES {
        let full = format!("{PREFIX}{name}");
        let address = as_glibc(&full, &dynamic).unwrap_or_else(|| panic!("glibc does not find {full}"));
        let alias = if cfg!(target_arch = "x86_64") { name } else { &full };
        for name in [&full, alias] {
            assert_eq!(as_glibc(name, &dynamic), Some(address), "glibc, {name}");
            assert_eq!(as_musl(name, &dynamic), Some(address), "musl, {name}");
            assert_eq!(as_go(name, &dynamic), Some(address), "go, {name}");
            assert_eq!(as_bionic(name), Some(address), "bionic, {name}");
        }
    }
}

#[test]
fn names_that_are_not_there_are_not_found_and_hooks_have_another_version() {
    let dynamic = dynamic();
    for name in ["__vdso_getrandom", "__vdso_clock_gettime64", "", "malloc", "elsewhen_clock_gettime"] {
        assert_eq!(as_glibc(name, &dynamic), None, "{name}");
        assert_eq!(as_musl(name, &dynamic), None, "{name}");
        assert_eq!(as_go(name, &dynamic), None, "{name}");
    }
    assert_eq!(as_bionic("elsewhen_clock_gettime"), Some(HOOK_CLOCK_GETTIME));
}

#[test]
fn the_image_is_named_and_shaped_like_a_vdso() {
    let dynamic = dynamic();
    // AddressSanitizer aborts on a vDSO whose name does not begin with "linux-".
    assert_eq!(string_at(dynamic[&DT_STRTAB] + dynamic[&DT_SONAME]), "linux-vdso.so.1");
    assert_eq!(elf_hash(VERSION.0), VERSION.1);
    let tags = [5, 6, 10, 11, DT_HASH, DT_GNU_HASH, DT_VERSYM, DT_VERDEF, 0x6fff_fffd];
    assert!(tags.iter().all(|tag| dynamic.contains_key(tag)));
    // No relocations (7, 17, 23), no text relocations (22).
    assert!([7, 17, 22, 23].iter().all(|tag| !dynamic.contains_key(tag)));
    let elf = Elf::native(IMAGE).unwrap();
    let (sections, length) = elf.section_table().unwrap();
    assert!(sections + length <= IMAGE.len() as u64, "the section table is part of the image");
    // rustix refuses images with these.
    assert!(elf.segments().all(|segment| segment.kind != 3 && segment.kind != 0x6474_e552));
    assert_eq!(IMAGE[7], 0, "EI_OSABI");
}
