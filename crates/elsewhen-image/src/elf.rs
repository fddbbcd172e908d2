//! A reader of little-endian ELF files of x86 and arm64, 64-bit and 32-bit: as much of the format as vDSO images and the choice
//! of how to enter a program need. Mirrors `elf(5)`.
//!
//! Every access is checked: a damaged or hostile file gives `None`, never a panic.

/// What of the file header a caller may act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// `e_ident[EI_CLASS]`: 1 for 32-bit, 2 for 64-bit.
    pub class: u8,
    /// `e_type`: 2 for a program at a fixed address, 3 for one that can be anywhere.
    pub kind: u16,
    /// `e_machine`: 62 for x86-64, 3 for i386, 183 for arm64.
    pub machine: u16,
}

/// `ET_EXEC`: the program's addresses are absolute.
pub const ET_EXEC: u16 = 2;
/// `EM_386`.
pub const EM_386: u16 = 3;
/// `EM_X86_64`.
pub const EM_X86_64: u16 = 62;
/// `EM_AARCH64`.
pub const EM_AARCH64: u16 = 183;
/// The machine that this was built for.
#[cfg(target_arch = "x86_64")]
pub const EM_NATIVE: u16 = EM_X86_64;
/// The machine that this was built for.
#[cfg(target_arch = "aarch64")]
pub const EM_NATIVE: u16 = EM_AARCH64;
/// `ELFCLASS32`.
pub const CLASS_32: u8 = 1;
/// `ELFCLASS64`.
pub const CLASS_64: u8 = 2;

/// `PT_LOAD`.
pub const PT_LOAD: u32 = 1;
/// `PT_DYNAMIC`.
pub const PT_DYNAMIC: u32 = 2;
/// `PT_INTERP`.
pub const PT_INTERP: u32 = 3;
/// `PT_NOTE`.
pub const PT_NOTE: u32 = 4;
/// `PT_TLS`.
pub const PT_TLS: u32 = 7;
/// `PT_GNU_EH_FRAME`.
pub const PT_GNU_EH_FRAME: u32 = 0x6474_e550;

/// `SHT_NOBITS`.
pub const SHT_NOBITS: u32 = 8;
/// `SHT_DYNSYM`.
pub const SHT_DYNSYM: u32 = 11;
/// `STT_FUNC`.
pub const STT_FUNC: u8 = 2;

/// A program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `p_type`.
    pub kind: u32,
    /// `p_flags`: 1 execute, 2 write, 4 read.
    pub flags: u32,
    /// `p_offset`, in bytes.
    pub offset: u64,
    /// `p_vaddr`.
    pub vaddr: u64,
    /// `p_filesz`, in bytes.
    pub file_size: u64,
    /// `p_memsz`, in bytes.
    pub mem_size: u64,
}

/// A section header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// `sh_name`: offset in the section name table.
    pub name: u32,
    /// `sh_type`.
    pub kind: u32,
    /// `sh_flags`: 1 write, 2 alloc, 4 execute.
    pub flags: u64,
    /// `sh_addr`.
    pub addr: u64,
    /// `sh_offset`, in bytes.
    pub offset: u64,
    /// `sh_size`, in bytes.
    pub size: u64,
    /// `sh_link`: the index of a related section.
    pub link: u32,
}

/// A dynamic symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// The name, without its NUL.
    pub name: &'a [u8],
    /// `STT_*`.
    pub kind: u8,
    /// `st_shndx`: 0 where the symbol is not defined here.
    pub section: u16,
    /// `st_value`: address relative to the image.
    pub value: u64,
    /// `st_size`, in bytes.
    pub size: u64,
}

/// Reads the file header of any ELF file; `None` where `bytes` do not begin one.
pub fn file_header(bytes: &[u8]) -> Option<FileHeader> {
    if bytes.get(..4)? != b"\x7fELF" {
        return None;
    }
    Some(FileHeader { class: *bytes.get(4)?, kind: u16_at(bytes, 16)?, machine: u16_at(bytes, 18)? })
}

/// An ELF file, or the beginning of one: what lies beyond `bytes` reads as absent.
#[derive(Clone, Copy, Debug)]
pub struct Elf<'a> {
    bytes: &'a [u8],
    /// Whether addresses and offsets are four bytes, as in `Elf32_Ehdr` and its like.
    narrow: bool,
}

impl<'a> Elf<'a> {
    /// Wraps the bytes of a file; `None` where they are not a 64-bit x86-64 ELF file.
    pub fn x86_64(bytes: &'a [u8]) -> Option<Self> {
        Self::of(bytes, CLASS_64, EM_X86_64)
    }

    /// Wraps the bytes of a file; `None` where they are not an i386 ELF file.
    pub fn i386(bytes: &'a [u8]) -> Option<Self> {
        Self::of(bytes, CLASS_32, EM_386)
    }

    /// Wraps the bytes of a file; `None` where they are not an x32 ELF file: of x86-64, with addresses of 32 bits.
    pub fn x32(bytes: &'a [u8]) -> Option<Self> {
        Self::of(bytes, CLASS_32, EM_X86_64)
    }

    /// Wraps the bytes of a file; `None` where they are not a 64-bit ELF file of that machine.
    pub fn of_64_bit(bytes: &'a [u8], machine: u16) -> Option<Self> {
        Self::of(bytes, CLASS_64, machine)
    }

    /// Wraps the bytes of a file; `None` where they are not a 64-bit ELF file of the machine that this was built for.
    pub fn native(bytes: &'a [u8]) -> Option<Self> {
        Self::of_64_bit(bytes, EM_NATIVE)
    }

    fn of(bytes: &'a [u8], class: u8, machine: u16) -> Option<Self> {
        let (header, narrow) = (file_header(bytes)?, class == CLASS_32);
        let fits = header.class == class && header.machine == machine && bytes.len() >= if narrow { 52 } else { 64 };
        fits.then_some(Self { bytes, narrow })
    }

    /// One of two offsets: in a 64-bit file, in a 32-bit one.
    const fn at(self, wide: usize, narrow: usize) -> usize {
        if self.narrow { narrow } else { wide }
    }

    /// An address, an offset or a size in a record, at one of two offsets.
    fn word(self, record: &[u8], wide: usize, narrow: usize) -> Option<u64> {
        if self.narrow { u32_at(record, narrow).map(u64::from) } else { u64_at(record, wide) }
    }

    /// The file's bytes.
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// `e_entry`.
    pub fn entry(self) -> u64 {
        self.word(self.bytes, 24, 24).unwrap_or(0)
    }

    /// A table of the file: where it lies, and how many bytes it takes.
    fn table(self, at: Option<u64>, sizes: usize) -> Option<(u64, u64)> {
        let (size, count) = (u16_at(self.bytes, sizes)?, u16_at(self.bytes, sizes + 2)?);
        Some((at?, u64::from(size) * u64::from(count)))
    }

    /// Where the program header table lies in the file, and how many bytes it takes.
    pub fn segment_table(self) -> Option<(u64, u64)> {
        self.table(self.word(self.bytes, 32, 28), self.at(54, 42))
    }

    /// Where the section header table lies in the file, and how many bytes it takes.
    pub fn section_table(self) -> Option<(u64, u64)> {
        self.table(self.word(self.bytes, 40, 32), self.at(58, 46))
    }

    /// The program headers.
    pub fn segments(self) -> impl Iterator<Item = Segment> + 'a {
        let (at, len) = self.segment_table().unwrap_or((0, 0));
        records(self.bytes, at, len, self.at(56, 32)).map_while(move |record| {
            Some(Segment {
                kind: u32_at(record, 0)?,
                flags: u32_at(record, self.at(4, 24))?,
                offset: self.word(record, 8, 4)?,
                vaddr: self.word(record, 16, 8)?,
                file_size: self.word(record, 32, 16)?,
                mem_size: self.word(record, 40, 20)?,
            })
        })
    }

    /// The section headers.
    pub fn sections(self) -> impl Iterator<Item = Section> + 'a {
        let (at, len) = self.section_table().unwrap_or((0, 0));
        records(self.bytes, at, len, self.at(64, 40)).map_while(move |record| {
            Some(Section {
                name: u32_at(record, 0)?,
                kind: u32_at(record, 4)?,
                flags: self.word(record, 8, 8)?,
                addr: self.word(record, 16, 12)?,
                offset: self.word(record, 24, 16)?,
                size: self.word(record, 32, 20)?,
                link: u32_at(record, self.at(40, 24))?,
            })
        })
    }

    /// The name of a section.
    pub fn section_name(self, section: Section) -> Option<&'a [u8]> {
        let index = usize::from(u16_at(self.bytes, self.at(62, 50))?);
        let table = self.sections().nth(index)?;
        c_string(self.bytes, table.offset.checked_add(section.name.into())?)
    }

    /// The bytes between two offsets of the file.
    pub fn slice(self, offset: u64, len: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(offset).ok()?;
        self.bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
    }

    /// The dynamic symbols, found through the section header table.
    pub fn dynamic_symbols(self) -> impl Iterator<Item = Symbol<'a>> {
        let table = self.sections().find(|section| section.kind == SHT_DYNSYM);
        let names = table.and_then(|table| self.sections().nth(table.link as usize)).map_or(0, |names| names.offset);
        let (at, len) = table.map_or((0, 0), |table| (table.offset, table.size));
        let bytes = self.bytes;
        records(bytes, at, len, self.at(24, 16)).skip(1).map_while(move |record| {
            Some(Symbol {
                name: c_string(bytes, names.checked_add(u32_at(record, 0)?.into())?)?,
                kind: *record.get(self.at(4, 12))? & 0xf,
                section: u16_at(record, self.at(6, 14))?,
                value: self.word(record, 8, 4)?,
                size: self.word(record, 16, 8)?,
            })
        })
    }

    /// The defined function of exactly this name.
    pub fn function(self, name: &str) -> Option<Symbol<'a>> {
        let wanted =
            |symbol: &Symbol<'_>| symbol.name == name.as_bytes() && symbol.section != 0 && symbol.kind == STT_FUNC;
        self.dynamic_symbols().find(wanted)
    }
}

/// Splits a table of the file into records of `size` bytes; stops where the file ends.
fn records(bytes: &[u8], at: u64, len: u64, size: usize) -> impl Iterator<Item = &[u8]> {
    let start = usize::try_from(at).ok().filter(|start| *start <= bytes.len()).unwrap_or(bytes.len());
    let rest = bytes.get(start..).unwrap_or(&[]);
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
    rest.get(..len).unwrap_or(&[]).chunks_exact(size)
}

fn c_string(bytes: &[u8], at: u64) -> Option<&[u8]> {
    let rest = bytes.get(usize::try_from(at).ok()?..)?;
    rest.get(..rest.iter().position(|byte| *byte == 0)?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file header, a program header and a section header, with a word at an offset of either class.
    fn file(narrow: bool, words: &[(usize, usize, u64)]) -> Vec<u8> {
        let mut bytes = vec![0; 256];
        bytes[..5].copy_from_slice(if narrow { b"\x7fELF\x01" } else { b"\x7fELF\x02" });
        bytes[18] = if narrow { EM_386 } else { EM_X86_64 } as u8;
        for &(wide_at, narrow_at, word) in words {
            let (at, len) = if narrow { (narrow_at, 4) } else { (wide_at, 8) };
            bytes[at..at + len].copy_from_slice(&word.to_le_bytes()[..len]);
        }
        bytes
    }

    #[test]
    fn both_classes_are_read_alike() {
        for narrow in [false, true] {
            // `e_entry`, `e_phoff`, `e_shoff`; one header of each table, behind the other; their fields.
            let mut bytes = file(narrow, &[(24, 24, 0x1000), (32, 28, 64), (40, 32, 128)]);
            let (sizes, segment) = if narrow { ([32, 1, 40, 1], 42) } else { ([56, 1, 64, 1], 54) };
            sizes.iter().enumerate().for_each(|(at, size)| bytes[segment + 2 * at] = *size);
            bytes[64] = PT_LOAD as u8;
            bytes[64 + if narrow { 24 } else { 4 }] = 5;
            bytes[128 + 4] = SHT_NOBITS as u8;
            for (at, value) in (if narrow { [4, 8, 16, 20] } else { [8, 16, 32, 40] }).into_iter().zip(1..) {
                bytes[64 + at] = value;
            }
            for (at, value) in (if narrow { [8, 12, 16, 20, 24] } else { [8, 16, 24, 32, 40] }).into_iter().zip(1..) {
                bytes[128 + at] = value;
            }
            let (wide, slim) = (Elf::x86_64(&bytes), Elf::i386(&bytes));
            assert_eq!((wide.is_some(), slim.is_some()), (!narrow, narrow));
            let elf = wide.or(slim).unwrap();
            assert_eq!(
                (elf.entry(), elf.segment_table().unwrap().0, elf.section_table().unwrap().0),
                (0x1000, 64, 128)
            );
            let segment = Segment { kind: PT_LOAD, flags: 5, offset: 1, vaddr: 2, file_size: 3, mem_size: 4 };
            assert_eq!(elf.segments().collect::<Vec<_>>(), [segment]);
            let section = Section { name: 0, kind: SHT_NOBITS, flags: 1, addr: 2, offset: 3, size: 4, link: 5 };
            assert_eq!(elf.sections().collect::<Vec<_>>(), [section]);
        }
    }

    proptest! {
        #[test]
        fn damaged_files_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), header: Option<bool>) {
            if let Some(narrow) = header && bytes.len() >= 20 {
                bytes[..5].copy_from_slice(if narrow { b"\x7fELF\x01" } else { b"\x7fELF\x02" });
                bytes[18..20].copy_from_slice(&if narrow { EM_386 } else { EM_X86_64 }.to_le_bytes());
            }
            let _ = file_header(&bytes);
            for elf in [Elf::x86_64(&bytes), Elf::i386(&bytes)].into_iter().flatten() {
                let _ = (elf.entry(), elf.segments().count(), elf.sections().count(), elf.function("time"));
                let named = |section| elf.section_name(section).is_some();
                let _ = elf.sections().filter(|section| named(*section)).count();
            }
        }
    }
}
