//! System calls have other numbers on every machine, and some are missing.

/// In place of the number of a call that a machine does not have: no call has it.
pub(crate) const ABSENT: u32 = 0x3_e15e;

/// A call's number on this machine, of those on x86-64 and on arm64, where `_` stands for none.
#[cfg(target_arch = "x86_64")]
macro_rules! native {
    ($x86:literal $arm64:tt) => {
        $x86
    };
}

/// A call's number on this machine, of those on x86-64 and on arm64, where `_` stands for none.
#[cfg(target_arch = "aarch64")]
macro_rules! native {
    ($x86:literal _) => {
        $crate::native::ABSENT
    };
    ($x86:literal $arm64:literal) => {
        $arm64
    };
}
pub(crate) use native;
