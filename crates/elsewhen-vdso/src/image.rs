//! The built image, and the places in it that the host side needs.
//!
//! `build.rs` compiles `image/lib.rs` for the machine that is built for, links it and checks the result; the same bytes come
//! out in debug and release builds. The image is a vDSO-shaped ELF file that is mapped, from its first byte, right behind the
//! page.

include!(concat!(env!("OUT_DIR"), "/image.rs"));
