//! On arm64 processes are entered at their start only.

use crate::attach::Destination;
use crate::enter::Entrance;
use crate::error::{Error, Result};
use crate::seccomp::Listener;
use std::io;

/// Why nothing is done to a process that runs.
fn refusal(pid: u32) -> Error {
    Error::refused(format!(
        "process {pid} runs already, and on arm64 a process cannot change its namespace while it runs; start it with \
         `elsewhen run`"
    ))
}

/// Refuses every process.
///
/// # Errors
/// Always.
pub(crate) fn check_program(pid: u32) -> Result<()> {
    Err(refusal(pid))
}

/// A process that is not a member yet cannot become one here.
///
/// # Errors
/// Always.
pub fn enter(
    _entrance: &Entrance,
    pid: u32,
    _destination: Destination,
    _serve: impl FnOnce(Listener, bool) -> io::Result<()> + Send,
) -> Result<()> {
    Err(refusal(pid))
}

/// A process that is, or was, a member cannot change to another namespace here.
///
/// # Errors
/// Always.
pub fn switch(_entrance: &Entrance, pid: u32, _destination: Destination) -> Result<()> {
    Err(refusal(pid))
}

/// A process whose supervisor has died cannot be given another here.
///
/// # Errors
/// Always.
pub fn announce_anew(_entrance: &Entrance, pid: u32) -> Result<Listener> {
    Err(refusal(pid))
}
