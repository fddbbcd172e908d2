//! The error of this crate: which step failed, on what, and the kernel's answer.

use std::fmt;
use std::io;

/// A failed step. Displays as `STEP: KERNEL'S ANSWER`.
#[derive(Debug)]
pub struct Error {
    step: String,
    source: Option<io::Error>,
}

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A step that failed with an answer of the kernel.
    pub(crate) fn new(step: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { step: step.into(), source: Some(source.into()) }
    }

    /// A step that cannot succeed, for a reason that is not an error number.
    pub(crate) fn refused(step: impl Into<String>) -> Self {
        Self { step: step.into(), source: None }
    }

    /// The error number behind this error, if there is one.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.as_ref()?.raw_os_error()
    }

    /// Whether the kernel or its security modules forbade the step.
    pub fn is_permission(&self) -> bool {
        matches!(self.raw_os_error(), Some(libc::EPERM | libc::EACCES))
    }

    /// Whether somebody else has it.
    pub fn is_busy(&self) -> bool {
        self.raw_os_error() == Some(libc::EBUSY)
    }

    /// Whether there is such a thing already.
    pub fn is_taken(&self) -> bool {
        self.raw_os_error() == Some(libc::EEXIST)
    }

    /// Whether the process in question no longer exists.
    pub fn is_gone(&self) -> bool {
        matches!(self.raw_os_error(), Some(libc::ESRCH | libc::ENOENT | libc::EIO))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{}: {}", self.step, describe(source)),
            None => f.write_str(&self.step),
        }
    }
}

impl std::error::Error for Error {}

/// The kernel's answer in words, without Rust's "(os error N)".
fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// Names the step of a failed call.
pub(crate) trait Step<T> {
    /// Turns the call's error into this crate's, with the step's name.
    fn step(self, step: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Step<T> for std::result::Result<T, E> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::new(step(), source))
    }
}
