//! The error of this crate.

use std::fmt;

/// Why something could not be done. Displays as one line: what was tried, on what, why, and what to do where
/// that is known.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
}

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Invalid,
    NotFound,
    CannotRun,
    Refused,
    Setup,
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { kind: Kind::Invalid, message: message.into() }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self { kind: Kind::NotFound, message: message.into() }
    }

    pub(crate) fn cannot_run(message: impl Into<String>) -> Self {
        Self { kind: Kind::CannotRun, message: message.into() }
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self { kind: Kind::Refused, message: message.into() }
    }

    /// An error that is none of the kinds that can be asked for.
    pub fn other(message: impl Into<String>) -> Self {
        Self::setup(message)
    }

    pub(crate) fn setup(message: impl Into<String>) -> Self {
        Self { kind: Kind::Setup, message: message.into() }
    }

    /// Whether what was asked for makes no sense: a date out of range, a clock that would run backwards.
    pub fn is_invalid(&self) -> bool {
        self.kind == Kind::Invalid
    }

    /// Whether the program does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }

    /// Whether the program exists but the kernel cannot run it.
    pub fn is_not_executable(&self) -> bool {
        self.kind == Kind::CannotRun
    }

    /// Whether the program was refused because it could not be entered, and so would have seen the host's time.
    pub fn is_refused(&self) -> bool {
        self.kind == Kind::Refused
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<elsewhen_linux::Error> for Error {
    fn from(error: elsewhen_linux::Error) -> Self {
        Self::setup(error.to_string())
    }
}

impl From<crate::spec::GrammarError> for Error {
    fn from(error: crate::spec::GrammarError) -> Self {
        Self::invalid(error.to_string())
    }
}
