//! The behaviour of `elsewhen`, tested with real programs on the real kernel.
//!
//! Guests are small programs in `tests/guests`, compiled when they are first needed. They print what they observe;
//! the tests compare that with readings of the host's clocks taken before and after. What cannot run on a machine is
//! skipped, and says so on standard error.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]
#![cfg_attr(target_arch = "aarch64", allow(dead_code, reason = "what tests of running processes need"))]

#[cfg(target_arch = "x86_64")]
mod attach;
#[cfg(target_arch = "aarch64")]
mod attach_refused;
#[cfg(target_arch = "x86_64")]
mod attach_servers;
#[cfg(target_arch = "x86_64")]
mod attach_waits;
#[cfg(target_arch = "x86_64")]
mod calls32;
mod changes;
mod children;
mod chronyd;
mod command_line;
mod containers;
mod engines;
mod files;
mod guests;
mod harness;
mod library;
mod namespaces;
mod servers;
mod setting;
mod signals;
mod steps;
mod surface;
mod terminal;
mod tools;
mod waits;
#[cfg(target_arch = "x86_64")]
mod x32;
