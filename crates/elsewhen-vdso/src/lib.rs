//! Both sides of elsewhen's contract: what a time namespace's page holds, how a clock reading is mapped, and the
//! image that does so inside members.
//!
//! The modules here are compiled twice: into this crate, for the side that controls a namespace, and into the
//! image (`image/lib.rs`), for the side that reads clocks. There is no unsafe code in them.
//!
//! - [`clock`]: which clocks exist, and which move together;
//! - [`transform`]: affine maps from host time to member time, and their inverse;
//! - [`latch`]: how a page changes under readers that must never wait;
//! - [`page`]: the layout of the shared page;
//! - [`surface`]: the system calls that carry time;
//! - [`state`]: what a member keeps for itself;
//! - [`elf`]: a reader of 64-bit ELF files, as much as vDSO images and programs need;
//! - [`image`]: the built image and the addresses in it.
//!
//! This crate does no system calls and knows nothing about processes; `elsewhen-linux` does.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod clock;
#[cfg(not(loom))]
pub mod image;
pub mod latch;
mod native;
#[cfg(not(loom))]
pub mod page;
#[cfg(not(loom))]
pub mod state;
pub mod surface;
#[cfg(target_arch = "x86_64")]
pub mod surface32;
mod sync;
pub mod transform;

pub use elsewhen_image::elf;
