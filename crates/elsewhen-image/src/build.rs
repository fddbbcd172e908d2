//! Making an image in a build script: one object, linked alone, then checked.
//!
//! The inner compiler sees neither the profile nor `RUSTFLAGS`, so debug and release builds embed the same bytes.
//! Only that object is linked: whatever it refers to outside itself is a link error.
//!
//! Everything here panics with the reason where it fails, as build scripts do.

use crate::elf::{self, Elf};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What an image is for: its instruction set and calling convention.
#[derive(Clone, Copy, Debug)]
pub struct Abi {
    /// In file names.
    pub name: &'static str,
    /// The compiler's `--target`.
    pub target: &'static str,
    /// The linker's `-m`.
    pub emulation: &'static str,
    /// `e_machine` of the image.
    pub machine: u16,
    /// Further arguments for the compiler.
    pub arguments: &'static [&'static str],
}

/// x86-64.
pub const X86_64: Abi = Abi {
    name: "64",
    target: "x86_64-unknown-linux-gnu",
    emulation: "elf_x86_64",
    machine: elf::EM_X86_64,
    arguments: &[],
};

/// arm64. Atomics are loops, since nothing outside the image can be called. The register x28 stays the program's: Go keeps in it
/// what its signal handlers need.
pub const AARCH64: Abi = Abi {
    name: "arm64",
    target: "aarch64-unknown-linux-gnu",
    emulation: "aarch64linux",
    machine: elf::EM_AARCH64,
    arguments: &["-Ctarget-feature=-outline-atomics,+reserve-x28"],
};

/// The ABI of the programs of the machine that is built for.
///
/// # Panics
/// Where there is no image for that machine.
pub fn native() -> Abi {
    begin();
    match &*variable("CARGO_CFG_TARGET_ARCH") {
        "x86_64" => X86_64,
        "aarch64" => AARCH64,
        other => panic!("elsewhen runs on x86-64 and arm64 Linux; there is no image for {other} yet"),
    }
}

/// One image to be made.
#[derive(Clone, Copy, Debug)]
pub struct Recipe<'a> {
    /// What it is for.
    pub abi: Abi,
    /// In file names: those are this and the ABI's.
    pub name: &'a str,
    /// The crate whose code it is, for messages of the compiler.
    pub package: &'a str,
    /// Further arguments for the compiler.
    pub arguments: &'a [String],
    /// The linker script, relative to the package.
    pub script: &'a Path,
    /// The version script, relative to the package.
    pub map: &'a Path,
}

impl Recipe<'_> {
    /// Compiles `image/lib.rs`, links it, checks the result and returns its bytes and where they are.
    ///
    /// # Panics
    /// Where any of that fails.
    pub fn make(&self) -> (PathBuf, Vec<u8>) {
        let object = self.compile();
        self.link(&object, self.script, "")
    }

    /// The object alone.
    ///
    /// # Panics
    /// Where the compiler fails.
    pub fn compile(&self) -> PathBuf {
        let (source, stem) = (source(), self.stem(""));
        let (object, depends) = (stem.with_extension("o"), stem.with_extension("d"));
        run(rustc()
            .args(["--edition=2024", "--crate-name=vdso", "--crate-type=lib", "--cfg=vdso_image", "--cap-lints=warn"])
            .arg(format!("--target={}", self.abi.target))
            .args(["-Copt-level=2", "-Cpanic=abort", "-Ccodegen-units=1"])
            .args(["-Cdebug-assertions=no", "-Coverflow-checks=no", "-Crelocation-model=pic", "-Cdebuginfo=0"])
            .args(["-Cforce-unwind-tables=yes", "-Cforce-frame-pointers=yes", "-Cembed-bitcode=no"])
            // Scalar code only: a vector load right after the host's scalar stores stalls, and the vector registers
            // of whoever is interrupted stay untouched.
            .args(["-Cno-vectorize-loops", "-Cno-vectorize-slp"])
            .args(self.abi.arguments)
            .args(self.arguments)
            .arg(format!("--remap-path-prefix={}={}", source.display(), self.package))
            .arg(format!("--emit=obj={},dep-info={}", object.display(), depends.display()))
            .arg(source.join("image/lib.rs")));
        // Each source has a line `FILE:` of its own, for makes that delete files.
        for line in fs::read_to_string(&depends).expect("rustc has just written it").lines() {
            if let Some(file) = line.strip_suffix(':') {
                println!("cargo::rerun-if-changed={file}");
            }
        }
        object
    }

    /// Links an object by a script and checks the image; `suffix` tells it from others of the same recipe.
    ///
    /// # Panics
    /// Where the linker fails, or the image is not in the shape of a vDSO.
    pub fn link(&self, object: &Path, script: &Path, suffix: &str) -> (PathBuf, Vec<u8>) {
        println!("cargo::rerun-if-env-changed=ELSEWHEN_IMAGE_LINKER");
        let (source, image) = (source(), self.stem(suffix).with_extension("so"));
        for input in [script, self.map] {
            println!("cargo::rerun-if-changed={}", input.display());
        }
        run(linker()
            .args(["-m", self.abi.emulation, "-shared", "--hash-style=both", "--build-id=sha1", "--no-undefined"])
            .args(["--eh-frame-hdr", "-Bsymbolic", "--strip-all", "-znoexecstack", "-znorelro"])
            .args(["-zmax-page-size=4096", "--orphan-handling=error", "-soname", "linux-vdso.so.1"])
            .arg("--version-script")
            .arg(source.join(self.map))
            .arg("-T")
            .arg(source.join(script))
            .arg(object)
            .arg("-o")
            .arg(&image));
        let bytes = fs::read(&image).expect("the linker has just written the image");
        if let Err(fault) = check(&bytes, self.abi.machine) {
            panic!("the image {} {fault}", image.display());
        }
        (image, bytes)
    }

    fn stem(&self, suffix: &str) -> PathBuf {
        out().join(format!("{}{}{suffix}", self.name, self.abi.name))
    }
}

/// Refuses to build for a machine that no image is made for.
///
/// # Panics
/// Where the crate is built for another architecture than x86-64.
pub fn require_x86_64() {
    begin();
    let target = variable("CARGO_CFG_TARGET_ARCH");
    assert_eq!(target, "x86_64", "this crate is for x86-64 Linux; there is no image for {target} yet");
}

/// What every build script of an image tells cargo.
fn begin() {
    println!("cargo::rustc-check-cfg=cfg(vdso_image)");
    println!("cargo::rerun-if-changed=build.rs");
}

/// Where what is made goes.
///
/// # Panics
/// Outside build scripts.
pub fn out() -> PathBuf {
    PathBuf::from(variable("OUT_DIR"))
}

fn source() -> PathBuf {
    PathBuf::from(variable("CARGO_MANIFEST_DIR"))
}

/// The compiler that cargo uses, without its wrappers and flags.
fn rustc() -> Command {
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    rustc
}

/// `ELSEWHEN_IMAGE_LINKER`, else the toolchain's own `rust-lld`, else `ld`.
fn linker() -> Command {
    if let Some(linker) = env::var_os("ELSEWHEN_IMAGE_LINKER") {
        return Command::new(linker);
    }
    let sysroot = rustc().args(["--print", "sysroot"]).output().expect("rustc runs").stdout;
    let sysroot = String::from_utf8(sysroot).expect("the sysroot's path is UTF-8");
    let lld = Path::new(sysroot.trim()).join("lib/rustlib").join(variable("HOST")).join("bin/rust-lld");
    if lld.exists() {
        let mut command = Command::new(lld);
        command.args(["-flavor", "gnu"]);
        return command;
    }
    Command::new("ld")
}

/// What the linker script cannot assert: the shape of a vDSO.
fn check(bytes: &[u8], machine: u16) -> Result<(), String> {
    let elf = Elf::of_64_bit(bytes, machine).ok_or("is not a 64-bit ELF file of its machine")?;
    let loads: Vec<_> = elf.segments().filter(|segment| segment.kind == elf::PT_LOAD).collect();
    let [load] = loads[..] else { return Err(format!("has {} loadable segments, not one", loads.len())) };
    if load.offset != 0 || load.vaddr != 0 || load.flags != 5 || load.file_size != load.mem_size {
        return Err(format!("has a segment that is not one R-X mapping of the file: {load:?}"));
    }
    for (kind, name) in
        [(elf::PT_DYNAMIC, "PT_DYNAMIC"), (elf::PT_NOTE, "PT_NOTE"), (elf::PT_GNU_EH_FRAME, "PT_GNU_EH_FRAME")]
    {
        if !elf.segments().any(|segment| segment.kind == kind) {
            return Err(format!("has no {name}"));
        }
    }
    const FORBIDDEN: [&[u8]; 9] =
        [b".got", b".got.plt", b".plt", b".data", b".bss", b".rela", b".rela.dyn", b".tdata", b".tbss"];
    for section in elf.sections() {
        let name = elf.section_name(section).ok_or("has a section without a name")?;
        if section.size > 0 && FORBIDDEN.contains(&name) {
            return Err(format!("has a section {}", String::from_utf8_lossy(name)));
        }
        if section.flags & 1 != 0 && section.size > 0 && name != b".dynamic" {
            return Err(format!("has a writable section {}", String::from_utf8_lossy(name)));
        }
    }
    let mut exported = 0;
    for symbol in elf.dynamic_symbols() {
        // Version names are absolute symbols.
        if symbol.section == 0 {
            return Err(format!("refers to {} outside itself", String::from_utf8_lossy(symbol.name)));
        }
        exported += u32::from(symbol.kind == elf::STT_FUNC);
    }
    if exported == 0 { Err("exports no function".into()) } else { Ok(()) }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|fault| panic!("cargo sets {name}: {fault}"))
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|fault| panic!("cannot run {command:?}: {fault}"));
    assert!(status.success(), "{command:?}: {status}");
}
