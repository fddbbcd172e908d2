//! This process, where it is itself a member: what it needs to read the host's clocks, and to start programs in another
//! namespace than its own, under the supervisor that it has.

use crate::attach;
use crate::error::Result;
use crate::filter::Filter;
use crate::page::{PAGE_ADDRESS, STATE_ADDRESS};
use crate::process::Inheritance;
use crate::redirect::Terms;
use crate::remote::{RemoteMemory, Tid};
use crate::seccomp;
use elsewhen_vdso::page::PAGE_SIZE;
use elsewhen_vdso::state::{BELONGS_TO_PAGE, FILTERED, State};
use elsewhen_vdso::surface::Reach;
use rustix::mm::{MapFlags, ProtFlags, mmap};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

/// `clock_gettime` of the host's vDSO, as it was before it was redirected.
type ClockFn = unsafe extern "C" fn(i32, *mut libc::timespec) -> i32;

/// What this process's state says of its namespace; `None` where it has never been in one.
pub fn terms() -> Option<Terms> {
    static TERMS: OnceLock<Option<Terms>> = OnceLock::new();
    *TERMS.get_or_init(|| attach::terms(&RemoteMemory::open(Tid(std::process::id())).ok()?))
}

fn state() -> Option<&'static State> {
    terms()?;
    // SAFETY: the state is mapped for as long as the process lives, and consists of atomics.
    Some(unsafe { &*std::ptr::with_exposed_provenance::<State>(STATE_ADDRESS as usize) })
}

/// The host's reading of a clock, where this process's own is another.
pub(crate) fn host_time(clock: i32) -> Option<libc::timespec> {
    let address = state()?.host_clock.load(Ordering::Relaxed);
    if address == 0 {
        return None;
    }
    // SAFETY: the supervisor has put the address of that function there.
    let read: ClockFn = unsafe { std::mem::transmute(address as usize) };
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the function writes one `timespec`.
    (unsafe { read(clock, &mut time) } == 0).then_some(time)
}

/// Makes every process of a command change to a page, of a namespace that can do as much, before it executes its program.
///
/// # Errors
/// Where no descriptor is left.
pub fn change_before_exec(
    command: &mut Command,
    page: BorrowedFd<'_>,
    reach: Reach,
    inheritance: Inheritance,
) -> Result<()> {
    let page: OwnedFd = crate::process::duplicate(page)?;
    let filtered = terms().and_then(|terms| terms.filtered);
    let more = (!filtered.is_some_and(|has| has.includes(reach))).then(|| Filter::catching(reach));
    let hook = move || {
        inheritance.apply();
        if let Some(filter) = &more {
            seccomp::install_without_listener(filter)?;
        }
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        let at = std::ptr::without_provenance_mut(PAGE_ADDRESS as usize);
        // SAFETY: what has been there is the page, which readers read again as a whole where it has changed.
        unsafe { mmap(at, PAGE_SIZE, ProtFlags::READ, flags, &page, 0) }?;
        let state = state().ok_or_else(|| io::Error::from_raw_os_error(libc::EPERM))?;
        state.reach.store(reach.to_bits(), Ordering::Relaxed);
        state.filtered.fetch_or(reach.to_bits() | FILTERED, Ordering::Relaxed);
        state.belongs.store(BELONGS_TO_PAGE, Ordering::Relaxed);
        Ok(())
    };
    // SAFETY: the hook only makes system calls and stores words: no allocation, no locks; what `state` looks up has been
    // looked up here.
    unsafe { command.pre_exec(hook) };
    Ok(())
}
