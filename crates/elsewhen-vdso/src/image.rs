//! The built image, and the places in it that the host side needs.
//!
//! `build.rs` compiles `image/lib.rs`, links it and checks the result; the same bytes come out in debug and
//! release builds.

/// The image for x86-64: a vDSO-shaped ELF file that is mapped, from its first byte, right behind the page.
pub static X86_64: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vdso64.so"));

include!(concat!(env!("OUT_DIR"), "/hooks.rs"));
