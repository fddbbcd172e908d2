//! Containers in their own time: an OCI runtime that wraps another one, and where its containers are found.
//!
//! The program `elsewhen-oci` is called as engines call `runc`. A container whose configuration asks for a time of its own
//! gets an *agent*, a process that supervises its members for as long as it runs; everything else goes to the other runtime
//! untouched.

#![forbid(unsafe_code)]

mod agent;
mod bundle;
mod config;
pub mod containers;
mod install;
mod invocation;
mod runtime;
mod timens;

pub use runtime::run;
