//! Builds the image that runs in members.

use elsewhen_image::build::{Recipe, X86_64, native, out};
use elsewhen_image::elf::Elf;
use std::fs;
use std::path::Path;

/// The functions of every image that the host side sends threads to, as `hooks.rs` names them.
const HOOKS: [&str; 4] = ["elsewhen_clock_gettime", "elsewhen_gettimeofday", "elsewhen_clock_getres", "elsewhen_boot"];

/// Those of the image for arm64 besides.
const HOOKS_ARM64: [&str; 1] = ["elsewhen_gate_over"];

/// Those of the image for x86 besides.
const HOOKS_X86: [&str; 8] = [
    "elsewhen_time",
    "elsewhen_site",
    "elsewhen_remote",
    "elsewhen_clock_gettime64_32",
    "elsewhen_clock_gettime_32",
    "elsewhen_gettimeofday_32",
    "elsewhen_time_32",
    "elsewhen_clock_getres_32",
];

fn main() {
    let abi = native();
    let is_x86 = abi.machine == X86_64.machine;
    let recipe = Recipe {
        abi,
        name: "vdso",
        package: "elsewhen-vdso",
        arguments: &[],
        script: Path::new("image/vdso.ld"),
        map: Path::new(if is_x86 { "image/vdso64.map" } else { "image/vdsoarm64.map" }),
    };
    let (path, bytes) = recipe.make();
    let elf = Elf::of_64_bit(&bytes, abi.machine).expect("the image has been checked");
    let hooks = HOOKS.iter().chain(if is_x86 { &HOOKS_X86[..] } else { &HOOKS_ARM64 });
    let mut source = format!("/// The image.\npub static IMAGE: &[u8] = include_bytes!({path:?});\n");
    source.extend(hooks.map(|name| hook(elf, name)));
    if is_x86 {
        let remote = elf.function("elsewhen_remote").expect("it has just been found");
        source += &format!("/// Bytes of `elsewhen_remote`.\npub const REMOTE_LEN: u64 = {:#x};\n", remote.size);
    }
    fs::write(out().join("image.rs"), source).expect("OUT_DIR can be written");
}

/// Rust source with the offset of a hook in the image.
fn hook(elf: Elf<'_>, name: &str) -> String {
    let symbol = elf.function(name).unwrap_or_else(|| panic!("the image does not export {name}"));
    let constant = name.trim_start_matches("elsewhen_").to_uppercase();
    format!("/// Offset of `{name}` in [`IMAGE`], in bytes.\npub const HOOK_{constant}: u64 = {:#x};\n", symbol.value)
}
