//! Builds the images: one source, a row per design.

use elsewhen_image::build::{Abi, Recipe, X86_64, out, require_x86_64};
use elsewhen_image::elf::{Elf, STT_FUNC};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// A design.
struct Row {
    /// As users name it.
    name: &'static str,
    /// One line for tables.
    title: &'static str,
    /// `cfg` of the image.
    design: &'static str,
    /// Whether the counter is read by `lfence; rdtsc`.
    lfence: bool,
    /// How code is changed for members.
    code: Code,
    /// The variant of `Switch`.
    switch: &'static str,
}

/// How the code of members differs.
enum Code {
    /// Not at all.
    Same,
    /// By jumps over no-ops, whose places the image lists.
    Branches,
    /// By returns over jumps to `elsewhen_clk_to_ns`, for who is no member.
    Returns,
    /// It is another image, of this design, with all functions at the same places.
    Twin(&'static str),
}

/// What is built for.
const ABIS: [Abi; 1] = [X86_64];

#[rustfmt::skip]
const FLAVOURS: [Row; 8] = [
    Row { name: "base", title: "no namespaces", design: "none", lfence: false, code: Code::Same, switch: "Never" },
    Row { name: "base-lfence", title: "no namespaces, by lfence; rdtsc", design: "none", lfence: true, code: Code::Same, switch: "Never" },
    Row { name: "if-page", title: "`if`, flag on a page of its own", design: "flag_page", lfence: false, code: Code::Same, switch: "FlagOnPage" },
    Row { name: "if-line", title: "`if`, flag among the data", design: "flag_line", lfence: false, code: Code::Same, switch: "FlagInLine" },
    Row { name: "static-branch", title: "static branch over a no-op", design: "branch", lfence: false, code: Code::Branches, switch: "Branch" },
    Row { name: "retcall", title: "return copied over the tail call", design: "tail", lfence: false, code: Code::Returns, switch: "Retcall" },
    Row { name: "variants", title: "two images, functions aligned", design: "none", lfence: false, code: Code::Twin("always"), switch: "Image" },
    Row { name: "timens-page", title: "special data page", design: "page", lfence: false, code: Code::Same, switch: "Page" },
];

/// `xor eax, eax; ret`, and two bytes that are never executed.
const RETURN: [u8; 5] = [0x31, 0xc0, 0xc3, 0xcc, 0xcc];
/// A no-op of five bytes.
const NOP: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];

fn main() {
    require_x86_64();
    let mut source = String::from("/// All of them, in the order of reports.\npub static FLAVOURS: &[Flavour] = &[\n");
    for abi in ABIS {
        for row in &FLAVOURS {
            source += &row.make(abi);
        }
    }
    source += "];\n";
    fs::write(out().join("flavours.rs"), source).expect("OUT_DIR can be written");
}

impl Row {
    /// Makes the image or images; returns the row of the crate's table.
    fn make(&self, abi: Abi) -> String {
        let (path, bytes, twin) = match self.code {
            Code::Twin(design) => {
                let (twin, twin_bytes) = self.with_recipe(abi, design, |recipe| recipe.make());
                let script = out().join(format!("{}.ld", self.name));
                fs::write(&script, aligned(&twin_bytes)).expect("OUT_DIR can be written");
                let (path, bytes) = self.with_recipe(abi, self.design, |recipe| {
                    let object = recipe.compile();
                    recipe.link(&object, &script, "-host")
                });
                (path, bytes, format!("Some(include_bytes!({twin:?}))"))
            }
            _ => {
                let (path, bytes) = self.with_recipe(abi, self.design, |recipe| recipe.make());
                (path, bytes, "None".to_owned())
            }
        };
        let mut sites = String::new();
        for (offset, host, member) in self.sites(&bytes) {
            write!(sites, "Site {{ offset: {offset:#x}, host: {host:?}, member: {member:?} }}, ").expect("a string");
        }
        let text: u64 = functions(&bytes).iter().map(|(_, _, size)| size).sum();
        format!(
            "    Flavour {{ name: {:?}, title: {:?}, abi: {:?}, switch: Switch::{}, image: include_bytes!({path:?}), \
             member_image: {twin}, sites: &[{sites}], text_len: {text} }},\n",
            self.name, self.title, abi.name, self.switch
        )
    }

    fn with_recipe<T>(&self, abi: Abi, design: &str, make: impl FnOnce(Recipe<'_>) -> T) -> T {
        // Calls between functions that are exported go straight, not through a table.
        let mut arguments = vec!["-Crelocation-model=pie".to_owned(), format!("--cfg=design=\"{design}\"")];
        if self.lfence {
            arguments.push("--cfg=counter=\"lfence\"".to_owned());
        }
        make(Recipe {
            abi,
            name: &format!("{}-{design}-", self.name),
            package: "elsewhen-standalone",
            arguments: &arguments,
            script: Path::new("image/vdso.ld"),
            map: Path::new("image/vdso.map"),
        })
    }

    /// Places in the code, and what is there for others and for members.
    fn sites(&self, bytes: &[u8]) -> Vec<(usize, [u8; 5], [u8; 5])> {
        let jump = |from: usize, to: i64| {
            let distance = i32::try_from(to - from as i64 - 5).expect("the image is small");
            let mut bytes = [0xe9; 5];
            bytes[1..].copy_from_slice(&distance.to_le_bytes());
            bytes
        };
        let sites: Vec<_> = match self.code {
            Code::Same | Code::Twin(_) => return Vec::new(),
            Code::Branches => {
                let elf = Elf::x86_64(bytes).expect("the image has been checked");
                let table = elf.sections().find(|section| elf.section_name(*section) == Some(b".sites"));
                let table = table.expect("the image lists its branches");
                let word = |at: u64| {
                    let bytes = elf.slice(table.offset + at, 4).expect("the section is in the file");
                    (table.addr + at) as i64 + i64::from(i32::from_le_bytes(bytes.try_into().expect("four bytes")))
                };
                let records = (0..table.size).step_by(8);
                records.map(|at| (word(at) as usize, NOP, jump(word(at) as usize, word(at + 4)))).collect()
            }
            Code::Returns => {
                let (_, target, _) = functions(bytes)
                    .into_iter()
                    .find(|(name, ..)| name == "elsewhen_clk_to_ns")
                    .expect("the image has the function");
                let code = || functions(bytes).into_iter().flat_map(|(_, start, size)| start..start + size);
                // Where one is no jump, no return can be copied over it.
                let call = |at: u64| {
                    let mut call = jump(at as usize, target as i64);
                    call[0] = 0xe8;
                    call
                };
                assert!(
                    code().all(|at| !bytes[at as usize..].starts_with(&call(at))),
                    "the compiler has made a call of one that ought to be a jump"
                );
                let jumps = code().filter(|at| bytes[*at as usize..].starts_with(&jump(*at as usize, target as i64)));
                jumps.map(|at| (at as usize, RETURN, jump(at as usize, target as i64))).collect()
            }
        };
        assert!(!sites.is_empty(), "{}: no place to change was found in the image", self.name);
        for (at, host, member) in &sites {
            let compiled = if matches!(self.code, Code::Branches) { host } else { member };
            assert_eq!(bytes[*at..at + 5], compiled[..], "{}: something else is at {at:#x}", self.name);
        }
        sites
    }
}

/// Names, addresses (which are offsets in the file too) and lengths of the functions of an image, by address, each place
/// once.
fn functions(bytes: &[u8]) -> Vec<(String, u64, u64)> {
    let elf = Elf::x86_64(bytes).expect("the image has been checked");
    let symbols = elf.dynamic_symbols().filter(|symbol| symbol.kind == STT_FUNC);
    let named = symbols.map(|symbol| (String::from_utf8_lossy(symbol.name).into_owned(), symbol.value, symbol.size));
    // Aliases have no section of their own.
    let mut found: Vec<_> =
        named.filter(|(name, ..)| name.starts_with("__vdso_") || name.starts_with("elsewhen_")).collect();
    found.sort_by_key(|(_, value, _)| *value);
    found
}

/// The linker script that puts every function where another image has it; what `vdso2c` printed for the kernel.
fn aligned(image: &[u8]) -> String {
    let elf = Elf::x86_64(image).expect("the image has been checked");
    let text = elf.sections().find(|section| elf.section_name(*section) == Some(b".text")).expect("code").addr;
    let mut list = String::new();
    for (name, address, _) in functions(image) {
        writeln!(list, "    . = __code + {:#x}; *(.text.{name} .text.unlikely.{name})", address - text)
            .expect("a string");
    }
    let script = fs::read_to_string("image/vdso.ld").expect("the script is in the package");
    let marker = "    /* functions */\n";
    assert!(script.contains(marker), "the script has no place for the list");
    script.replace(marker, &list)
}
