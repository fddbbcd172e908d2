//! A vDSO that needs no other: what an OS kernel, a hypervisor or a library OS gives its processes, so that they read clocks
//! as on Linux without a system call, each in its own time namespace.
//!
//! - [`data`]: the page that readers compute clocks from, by the processor's counter;
//! - [`timekeeper`]: fills that page and keeps it right, from somebody else's clocks;
//! - [`read`]: reading it, the code of the images, for whoever has no image;
//! - [`flavour`]: the images, one for each design that was proposed for time namespaces in Linux's vDSO;
//! - `load` (feature `std`): pages and images mapped into a process, which enters a namespace and leaves it.
//!
//! An image is mapped with two pages right before it: first the namespace's, then the data page. It is an ELF file as
//! `vdso(7)` describes it: hand its address to programs as `AT_SYSINFO_EHDR`.
//!
//! ```
//! use elsewhen_standalone::{flavour, load};
//! use elsewhen_standalone::timekeeper::{Clock, Config, Sample, Timekeeper};
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sample = || Sample::take(load::ticks, load::host_ns, 8);
//! let first = sample();
//! std::thread::sleep(std::time::Duration::from_millis(20));
//! let mut timekeeper = Timekeeper::calibrate(&first, &sample(), Config::default())?;
//!
//! let page = Arc::new(load::PageFile::new()?);
//! timekeeper.publish(&[&page], load::ticks);
//! let vdso = load::Vdso::map(flavour::named("timens-page").ok_or("no such design")?, &page)?;
//! let before = vdso.clock_gettime(Clock::Monotonic.id())?;
//!
//! vdso.set_offset(Clock::Monotonic.id(), 3600, 0)?;
//! vdso.enter()?; // while other threads read
//! assert!(vdso.clock_gettime(Clock::Monotonic.id())?.sec >= before.sec + 3600);
//! # Ok(())
//! # }
//! ```
//!
//! Without the feature the crate is `no_std`, allocates nothing and makes no system call. x86-64 only; the counter must be
//! the same for all processors (`constant_tsc` and `nonstop_tsc`).

#![cfg_attr(not(any(test, feature = "std")), no_std)]

pub mod data;
pub mod flavour;
#[cfg(feature = "std")]
pub mod load;
pub mod read;
pub mod timekeeper;
