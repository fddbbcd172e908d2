//! Which clock a timer descriptor runs on, as the kernel tells in `/proc/thread-self/fdinfo` (`proc_pid_fdinfo(5)`):
//! a descriptor can come from anywhere, so nothing that this process has seen would be enough.

use crate::numbers;
use crate::host::{opaque, syscall};

const AT_FDCWD: usize = -100_isize as usize;
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
    let opened = unsafe { syscall(numbers::OPENAT, [AT_FDCWD, path.as_ptr().addr(), O_RDONLY_CLOEXEC, 0, 0, 0]) };
    let opened = usize::try_from(opened).ok()?;
    let clock = find(opened);
    // SAFETY: a descriptor of ours.
    unsafe { syscall(numbers::CLOSE, [opened, 0, 0, 0, 0, 0]) };
    clock
}

/// Finds the number behind "clockid:" in the file's first bytes; the kernel has written less than half of them by then.
fn find(file: usize) -> Option<i32> {
    const KEY: &[u8; 8] = b"clockid:";
    let mut words = [opaque(0); 16];
    let place = words.as_mut_ptr() as usize;
    // SAFETY: the kernel writes as much as there is place for, into ours.
    let length = unsafe { syscall(numbers::READ, [file, place, 8 * words.len(), 0, 0, 0]) };
    let (mut matched, mut clock) = (0, None);
    let mut at = 0;
    while at < usize::try_from(length).ok()? {
        let byte = (words.get(at / 8)? >> (8 * (at % 8))) as u8;
        at += 1;
        if matched < KEY.len() {
            matched = if KEY.get(matched) == Some(&byte) { matched + 1 } else { usize::from(byte == KEY[0]) };
        } else if byte.is_ascii_digit() {
            clock = Some(clock.unwrap_or(0) * 10 + i32::from(byte - b'0'));
        } else if clock.is_some() {
            return clock;
        }
    }
    clock
}
