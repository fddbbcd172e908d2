//! Which clock a timer descriptor runs on, as the kernel tells in `/proc/thread-self/fdinfo` (`proc_pid_fdinfo(5)`):
//! a descriptor can come from anywhere, so nothing that this process has seen would be enough.

use crate::host::{opaque, syscall};

const SYS_READ: i64 = 0;
const SYS_OPEN: i64 = 2;
const SYS_CLOSE: i64 = 3;
const O_RDONLY_CLOEXEC: usize = 0o2_000_000;

/// The clock of a descriptor. `None` where it is no timer, or the kernel's files are not there.
#[inline(never)]
pub(crate) fn clock(fd: i32) -> Option<i32> {
    let mut path = [opaque(0); 5];
    let mut length = 0;
    let mut put = |byte: u8| {
        if let Some(word) = path.get_mut(length / 8) {
            *word |= u64::from(byte) << (8 * (length % 8));
        }
        length += 1;
    };
    // A byte string would be copied by a vector; a loop over a reference to it is not.
    for byte in b"/proc/thread-self/fdinfo/" {
        put(*byte);
    }
    let mut divisor = 1_000_000_000u32;
    let number = fd as u32;
    while divisor > 0 {
        let digit = number / divisor;
        if digit > 0 || divisor == 1 {
            put(b'0' + (digit % 10) as u8);
        }
        divisor /= 10;
    }
    // SAFETY: the path ends with a zero, being shorter than its place.
    let opened = unsafe { syscall(SYS_OPEN, [path.as_ptr().addr(), O_RDONLY_CLOEXEC, 0, 0, 0, 0]) };
    let opened = usize::try_from(opened).ok()?;
    let clock = find(opened);
    // SAFETY: a descriptor of ours.
    unsafe { syscall(SYS_CLOSE, [opened, 0, 0, 0, 0, 0]) };
    clock
}

/// Reads the number behind "clockid:".
fn find(file: usize) -> Option<i32> {
    let (mut matched, mut clock) = (0, None);
    const KEY: &[u8; 8] = b"clockid:";
    loop {
        let mut byte = 0u8;
        // SAFETY: the kernel writes one byte, into ours.
        let read = unsafe { syscall(SYS_READ, [file, &raw mut byte as usize, 1, 0, 0, 0]) };
        // SAFETY: a byte of ours, which the kernel may have written.
        let byte = unsafe { (&raw const byte).read_volatile() };
        if read != 1 || (byte == b'\n' && clock.is_some()) {
            return clock;
        }
        if matched == KEY.len() {
            if byte.is_ascii_digit() {
                clock = Some(clock.unwrap_or(0) * 10 + i32::from(byte - b'0'));
            }
        } else {
            matched = if KEY.get(matched) == Some(&byte) { matched + 1 } else { usize::from(byte == KEY[0]) };
        }
    }
}
