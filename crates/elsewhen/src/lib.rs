//! Time namespaces for Linux in user space: any program, with everything it starts, in its own time.
//!
//! A [`Namespace`] holds an offset, a rate or a freeze for each of the host's clocks. A [`Command`] started in it
//! reads those clocks through the vDSO, at nearly the host's speed, and so does every program that it starts,
//! however it was linked; its raw system calls, waits, deadlines and timers are in that time too.
//! [`Namespace::set`] changes the clocks of all of them at once. A running process enters by [`Namespace::attach`] and
//! leaves by [`Namespace::detach`]; a namespace with a name is found by other processes with [`Namespace::open`].
//!
//! What is not intercepted is in `LIMITATIONS.md`.
//!
//! ```
//! use elsewhen::{Family, Namespace, Rate, Spec};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let namespace = Namespace::new(&Spec::new().at("2030-01-01T00:00:00Z".parse()?).rate(Rate::from_f64(10.0)?))?;
//! let mut child = namespace.command("sleep").arg("0.1").spawn()?;
//! namespace.set(&Spec::new().freeze(Family::Realtime))?;
//! assert!(child.wait()?.success());
//! # Ok(())
//! # }
//! ```
//!
//! Linux 5.9 or newer, on x86-64 or arm64.

#![forbid(unsafe_code)]

mod attach;
mod command;
mod discipline;
pub mod doctor;
mod error;
mod launcher;
mod namespace;
mod plan;
mod registry;
pub mod spec;
mod status;
mod supervisor;
mod watch;

pub use attach::{name_of, tree};
pub use command::{Child, Command, Reaper};
pub use elsewhen_linux::process::{Change, Inheritance, PidFd};
pub use error::{Error, Result};
pub use jiff::{SignedDuration, Timestamp};
pub use launcher::{execute_launcher, refuse_launcher};
pub use namespace::Namespace;
pub use registry::{folder as runtime_folder, folder_path as runtime_folder_path};
pub use spec::{Clocks, Family, Rate, Spec};
pub use status::{ClockStatus, Status};
