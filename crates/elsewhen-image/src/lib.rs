//! Images in the shape of a vDSO, as `vdso(7)` describes it.
//!
//! - [`elf`]: a reader of 64-bit ELF files, as much as such images, and programs, need;
//! - `build` (with the feature of that name): compiling, linking and checking an image in a build script.

#![cfg_attr(not(any(test, feature = "build")), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "build")]
pub mod build;
pub mod elf;
