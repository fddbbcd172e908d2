//! The host side of the kernel, for elsewhen: everything that controlling a time namespace from outside needs.
//!
//! - [`clock`]: the host's clocks, as the namespace's maps see them;
//! - [`page`]: the page and the image as memory files;
//! - [`seccomp`]: the filter of members, and the listener at which their program starts are announced;
//! - [`program`]: what a member is about to execute, and how it can be entered;
//! - [`redirect`]: the host vDSO's entries turned towards the image;
//! - [`enter`]: placing all of it in a new program, before that program reads a clock;
//! - [`attach`]: entering a process that runs, leaving it, and changing its page;
//! - [`inside`]: this process, where it is itself a member;
//! - [`trace`]: the short `ptrace(2)` session for programs that announce themselves in no other way;
//! - [`remote`]: another process's memory;
//! - [`process`] and [`signals`]: forking, waiting, passing signals on;
//! - [`probe`]: what this kernel and this user may do.
//!
//! This is the only crate of the host side with unsafe code. It knows no namespaces, dates or command lines;
//! `elsewhen` does.

#![expect(unsafe_code, reason = "system calls without a safe wrapper, and shared mappings")]

pub mod attach;
#[cfg(target_arch = "x86_64")]
mod attach_stub;
pub mod clock;
pub mod enter;
#[cfg_attr(target_arch = "aarch64", path = "entries_arm64.rs")]
mod entries;
#[cfg(target_arch = "x86_64")]
mod errand;
mod error;
pub mod filter;
#[cfg(target_arch = "x86_64")]
mod halt;
pub mod inside;
#[cfg(target_arch = "x86_64")]
mod interrupted;
#[cfg(target_arch = "x86_64")]
mod nothing32;
pub mod page;
pub mod probe;
pub mod process;
pub mod program;
pub mod redirect;
#[cfg(target_arch = "x86_64")]
mod redirect32;
pub mod remote;
#[cfg_attr(target_arch = "aarch64", path = "running_arm64.rs")]
mod running;
pub mod seccomp;
pub mod signals;
#[cfg(target_arch = "x86_64")]
mod sites;
#[cfg_attr(target_arch = "aarch64", path = "stub_arm64.rs")]
mod stub;
pub mod timers;
pub mod trace;
pub mod waiters;

pub use error::{Error, Result};
