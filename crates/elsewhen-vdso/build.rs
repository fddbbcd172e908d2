//! Builds the image that runs in members.

use elsewhen_image::build::{Recipe, X86_64, out, require_x86_64};
use elsewhen_image::elf::Elf;
use std::fs;
use std::path::Path;

/// The functions of the image that the host side sends threads to, as `hooks.rs` names them.
const HOOKS: [&str; 12] = [
    "elsewhen_clock_gettime",
    "elsewhen_gettimeofday",
    "elsewhen_time",
    "elsewhen_clock_getres",
    "elsewhen_boot",
    "elsewhen_site",
    "elsewhen_remote",
    "elsewhen_clock_gettime64_32",
    "elsewhen_clock_gettime_32",
    "elsewhen_gettimeofday_32",
    "elsewhen_time_32",
    "elsewhen_clock_getres_32",
];

fn main() {
    require_x86_64();
    let recipe = Recipe {
        abi: X86_64,
        name: "vdso",
        package: "elsewhen-vdso",
        arguments: &[],
        script: Path::new("image/vdso.ld"),
        map: Path::new("image/vdso64.map"),
    };
    let (_, bytes) = recipe.make();
    fs::write(out().join("hooks.rs"), hooks(&bytes)).expect("OUT_DIR can be written");
}

/// Rust source with the offset of each hook in the image.
fn hooks(bytes: &[u8]) -> String {
    let elf = Elf::x86_64(bytes).expect("the image has been checked");
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
