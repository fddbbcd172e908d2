//! Builds the image that runs in members: one object from `image/lib.rs`, linked alone, then checked.
//!
//! The inner compiler sees neither the profile nor RUSTFLAGS, so debug and release builds embed the same bytes.
//! Only our object is linked: whatever it refers to outside itself is a link error.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[expect(dead_code, unreachable_pub, reason = "the crate itself uses the rest, from outside")]
#[path = "src/elf.rs"]
mod elf;

/// The functions of the image that the host side sends threads to, as `hooks.rs` names them.
const HOOKS: [&str; 7] = [
    "elsewhen_clock_gettime",
    "elsewhen_gettimeofday",
    "elsewhen_time",
    "elsewhen_clock_getres",
    "elsewhen_boot",
    "elsewhen_site",
    "elsewhen_remote",
];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(vdso_image)");
    println!("cargo::rerun-if-env-changed=ELSEWHEN_IMAGE_LINKER");
    let target = variable("CARGO_CFG_TARGET_ARCH");
    assert_eq!(target, "x86_64", "elsewhen runs on x86-64 Linux; there is no image for {target} yet");
    let (source, out) = (PathBuf::from(variable("CARGO_MANIFEST_DIR")), PathBuf::from(variable("OUT_DIR")));
    for input in ["image/vdso.ld", "image/vdso64.map", "build.rs"] {
        println!("cargo::rerun-if-changed={input}");
    }
    let object = compile(&source, &out);
    let image = link(&source, &out, &object);
    let bytes = fs::read(&image).expect("the linker has just written the image");
    if let Err(fault) = check(&bytes) {
        panic!("the image {} {fault}", image.display());
    }
    fs::write(out.join("hooks.rs"), hooks(&bytes)).expect("OUT_DIR can be written");
}

fn compile(source: &Path, out: &Path) -> PathBuf {
    let (object, depends) = (out.join("vdso64.o"), out.join("vdso64.d"));
    run(rustc()
        .args(["--edition=2024", "--crate-name=vdso", "--crate-type=lib", "--cfg=vdso_image", "--cap-lints=warn"])
        .args(["--target=x86_64-unknown-linux-gnu", "-Copt-level=2", "-Cpanic=abort", "-Ccodegen-units=1"])
        .args(["-Cdebug-assertions=no", "-Coverflow-checks=no", "-Crelocation-model=pic", "-Cdebuginfo=0"])
        .args(["-Cforce-unwind-tables=yes", "-Cforce-frame-pointers=yes", "-Cembed-bitcode=no"])
        // Scalar code only: a vector load right after the host's scalar stores stalls, and the vector registers
        // of whoever is interrupted stay untouched.
        .args(["-Cno-vectorize-loops", "-Cno-vectorize-slp"])
        .arg(format!("--remap-path-prefix={}=elsewhen-vdso", source.display()))
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

fn link(source: &Path, out: &Path, object: &Path) -> PathBuf {
    let image = out.join("vdso64.so");
    run(linker()
        .args(["-m", "elf_x86_64", "-shared", "--hash-style=both", "--build-id=sha1", "--no-undefined"])
        .args(["--eh-frame-hdr", "-Bsymbolic", "--strip-all", "-znoexecstack", "-znorelro", "-zmax-page-size=4096"])
        .args(["--orphan-handling=error", "-soname", "linux-vdso.so.1", "--version-script"])
        .arg(source.join("image/vdso64.map"))
        .arg("-T")
        .arg(source.join("image/vdso.ld"))
        .arg(object)
        .arg("-o")
        .arg(&image));
    image
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
fn check(bytes: &[u8]) -> Result<(), String> {
    let elf = elf::Elf64::new(bytes).ok_or("is not a 64-bit x86-64 ELF file")?;
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

/// Rust source with the offset of each hook in the image.
fn hooks(bytes: &[u8]) -> String {
    let elf = elf::Elf64::new(bytes).expect("the image has been checked");
    let mut source = String::new();
    for name in HOOKS {
        let symbol = elf.function(name).unwrap_or_else(|| panic!("the image does not export {name}"));
        let (constant, function) = (name.trim_start_matches("elsewhen_"), name);
        source += &format!(
            "/// Offset of `{function}` in [`X86_64`], in bytes.\npub const HOOK_{}: u64 = {:#x};\n",
            constant.to_uppercase(),
            symbol.value
        );
    }
    let remote = elf.function("elsewhen_remote").expect("it has just been found");
    source += &format!("/// Bytes of `elsewhen_remote`.\npub const REMOTE_LEN: u64 = {:#x};\n", remote.size);
    source
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|fault| panic!("cargo sets {name}: {fault}"))
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|fault| panic!("cannot run {command:?}: {fault}"));
    assert!(status.success(), "{command:?}: {status}");
}
