//! Pages and images in this process: a machine in which the designs can be tried.
//!
//! [`Vdso::enter`] and [`Vdso::leave`] change what other threads may be executing. Which designs allow that is what
//! [`Switch::is_safe`] says; for the others all threads must be stopped outside the image, and
//! [`Vdso::switch_stopped`] is called.

#![expect(unsafe_code, reason = "maps memory and calls into it")]

use crate::data::DataPage;
use crate::flavour::{Flavour, Site, Switch};
use crate::read::{Status, Time};
use crate::timekeeper::Clock;
use elsewhen_image::elf::Elf;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const PAGE: usize = 4096;
/// Of a switch for a publication.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The time stamp counter, in order with what surrounds it.
pub fn ticks() -> u64 {
    let mut processor = 0;
    // SAFETY: every x86-64 processor that Linux runs on today has the instruction; `processor` is a place to write to.
    unsafe { core::arch::x86_64::__rdtscp(&raw mut processor) }
}

/// A clock of the host, in ns.
pub fn host_ns(clock: Clock) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, into ours; it has all of these clocks.
    unsafe { libc::clock_gettime(clock.id().cast_signed(), &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// A page in a memory file, mapped for writing here and for reading wherever it is used.
#[derive(Debug)]
pub struct PageFile {
    file: OwnedFd,
    view: NonNull<DataPage>,
}

// SAFETY: the page is atomics, and stays mapped for as long as this lives.
unsafe impl Send for PageFile {}
// SAFETY: as above.
unsafe impl Sync for PageFile {}

impl PageFile {
    /// A page of zeros: readers make system calls.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn new() -> io::Result<Self> {
        let file = memfd_create(c"vdso-data", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, PAGE as u64)?;
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let view = unsafe { mmap(null_mut(), PAGE, READ_WRITE, MapFlags::SHARED, &file, 0) }?;
        Ok(Self { file, view: NonNull::new(view.cast()).ok_or(io::ErrorKind::OutOfMemory)? })
    }
}

impl Deref for PageFile {
    type Target = DataPage;

    fn deref(&self) -> &DataPage {
        // SAFETY: mapped, aligned to a page, and any bytes are a value.
        unsafe { self.view.as_ref() }
    }
}

impl Drop for PageFile {
    fn drop(&mut self) {
        // SAFETY: nothing borrows it any more. Cannot fail for a whole mapping.
        let _ = unsafe { munmap(self.view.as_ptr().cast(), PAGE) };
    }
}

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// An image and its two pages in this process.
#[derive(Debug)]
pub struct Vdso {
    flavour: &'static Flavour,
    /// The namespace's page, the data page, the image.
    place: NonNull<u8>,
    code_len: usize,
    /// The code of the place, and of members where that is another.
    code: OwnedFd,
    member_code: Option<OwnedFd>,
    /// The code once more, for writing.
    alias: NonNull<u8>,
    data: Arc<PageFile>,
    namespace: PageFile,
    /// The sequences of the data when pages last changed places.
    switched_at: Mutex<Option<[u32; 2]>>,
}

// SAFETY: what the pointers are to stays mapped for as long as this lives, and is changed as a whole or by atomics.
unsafe impl Send for Vdso {}
// SAFETY: as above.
unsafe impl Sync for Vdso {}

impl Vdso {
    /// Maps an image of which this process is no member yet. Where the design wants a data page of its own for each
    /// namespace, [`data`](Self::data) is another one than `data`, and is to be published as well.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn map(flavour: &'static Flavour, data: &Arc<PageFile>) -> io::Result<Self> {
        let data = if flavour.switch == Switch::FlagInLine { Arc::new(PageFile::new()?) } else { Arc::clone(data) };
        let namespace = PageFile::new()?;
        if flavour.switch == Switch::Page {
            namespace.set_timens();
        }
        let code_len = flavour.image.len().next_multiple_of(PAGE);
        let code = code_file(flavour.image, code_len, flavour.sites)?;
        let member_code = flavour.member_image.map(|image| code_file(image, code_len, &[])).transpose()?;
        let len = 2 * PAGE + code_len;
        // SAFETY: new mappings, at places that the kernel chooses.
        let place = unsafe { mmap_anonymous(null_mut(), len, ProtFlags::empty(), MapFlags::PRIVATE) }?;
        // SAFETY: as above.
        let alias = unsafe { mmap(null_mut(), code_len, READ_WRITE, MapFlags::SHARED, &code, 0) }?;
        let out = io::ErrorKind::OutOfMemory;
        let vdso = Self {
            flavour,
            place: NonNull::new(place.cast()).ok_or(out)?,
            code_len,
            code,
            member_code,
            alias: NonNull::new(alias.cast()).ok_or(out)?,
            data,
            namespace,
            switched_at: Mutex::new(None),
        };
        // In the design with a special page the data are there for members.
        let first = if flavour.switch == Switch::Page { &vdso.data } else { &vdso.namespace };
        vdso.put(0, PAGE, ProtFlags::READ, &first.file)?;
        vdso.put(PAGE, PAGE, ProtFlags::READ, &vdso.data.file)?;
        vdso.put(2 * PAGE, code_len, ProtFlags::READ | ProtFlags::EXEC, &vdso.code)?;
        Ok(vdso)
    }

    /// The design.
    pub const fn flavour(&self) -> &'static Flavour {
        self.flavour
    }

    /// The page that the image reads.
    pub const fn data(&self) -> &Arc<PageFile> {
        &self.data
    }

    /// The namespace's page.
    pub fn namespace(&self) -> &DataPage {
        &self.namespace
    }

    /// The address of the image.
    pub fn address(&self) -> usize {
        self.place.as_ptr() as usize + 2 * PAGE
    }

    /// Addresses of the image's code.
    pub fn code(&self) -> std::ops::Range<usize> {
        self.address()..self.address() + self.code_len
    }

    /// The address of a function.
    pub fn function(&self, name: &str) -> Option<usize> {
        Some(self.address() + Elf::x86_64(self.flavour.image)?.function(name)?.value as usize)
    }

    /// Sets how far a clock of members is from the others': `nsec` is below a second. The coarse clocks have offsets of
    /// their own.
    ///
    /// # Errors
    /// Beyond some 272 years, and for clocks that the page does not have.
    pub fn set_offset(&self, clock: u32, sec: i64, nsec: u32) -> io::Result<()> {
        let is_set = self.namespace.set_offset(clock as usize, sec, nsec);
        is_set.then_some(()).ok_or(io::ErrorKind::InvalidInput.into())
    }

    /// Makes the process a member, for all its threads. Where pages change places, waits until the data page has been
    /// published once more since they last did.
    ///
    /// # Errors
    /// Where the kernel refuses to map memory, the design has no members or wants its threads to be stopped, or nobody
    /// publishes for 10 s.
    pub fn enter(&self) -> io::Result<()> {
        self.switch_running(true)
    }

    /// Makes the process no member.
    ///
    /// # Errors
    /// As of [`enter`](Self::enter).
    pub fn leave(&self) -> io::Result<()> {
        self.switch_running(false)
    }

    /// Makes the process a member or none, in any design.
    ///
    /// # Errors
    /// As of [`enter`](Self::enter).
    ///
    /// # Safety
    /// Where the design is not [safe](Switch::is_safe), no other thread is in the image meanwhile, nor will return into it.
    pub unsafe fn switch_stopped(&self, member: bool) -> io::Result<()> {
        self.switch(member)
    }

    fn switch_running(&self, member: bool) -> io::Result<()> {
        if !self.flavour.switch.is_safe() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.switch(member)
    }

    /// Reads a clock by the image.
    ///
    /// # Errors
    /// The error of the system call, for clocks that the page does not have.
    pub fn clock_gettime(&self, clock: u32) -> io::Result<Time> {
        let address = self.function("__vdso_clock_gettime").ok_or(io::ErrorKind::NotFound)?;
        // SAFETY: that function has this signature.
        let function: ClockGettime = unsafe { std::mem::transmute(address) };
        let mut time = [0_i64; 2];
        // SAFETY: the pointer is to a place for a timespec.
        match unsafe { function(clock, &mut time) } {
            0 => Ok(Time { sec: time[0], nsec: time[1].cast_unsigned() }),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }

    /// Whether the image uses the page, and if not why.
    pub fn status(&self) -> Status {
        let Some(address) = self.function("elsewhen_status") else { return Status::Magic };
        // SAFETY: that function has this signature.
        let function: unsafe extern "C" fn() -> u32 = unsafe { std::mem::transmute(address) };
        // SAFETY: reads the pages that are mapped.
        let status = unsafe { function() };
        [
            Status::Good,
            Status::Magic,
            Status::Version,
            Status::Counter,
            Status::Stopped,
            Status::Unfinished,
            Status::Timens,
        ]
        .into_iter()
        .find(|known| *known as u32 == status)
        .unwrap_or(Status::Magic)
    }

    fn switch(&self, member: bool) -> io::Result<()> {
        let mut switched_at = self.switched_at.lock().unwrap_or_else(PoisonError::into_inner);
        match self.flavour.switch {
            Switch::Never => return Err(io::ErrorKind::Unsupported.into()),
            Switch::FlagOnPage => self.namespace.set_member(member),
            Switch::FlagInLine => self.data.set_member(member),
            Switch::Branch => {
                self.flavour.sites.iter().for_each(|site| self.patch(site, member));
                serialize()?;
            }
            Switch::Retcall => self.flavour.sites.iter().for_each(|site| self.copy(site, member)),
            Switch::Image => {
                let code = self.member_code.as_ref().filter(|_| member).unwrap_or(&self.code);
                self.put(2 * PAGE, self.code_len, ProtFlags::READ | ProtFlags::EXEC, code)?;
            }
            Switch::Page => {
                let page = if member { &self.namespace.file } else { &self.data.file };
                if let Some(before) = *switched_at {
                    self.wait_for_publication(before)?;
                }
                self.put(PAGE, PAGE, ProtFlags::READ, page)?;
                *switched_at = Some(self.sequences());
            }
        }
        Ok(())
    }

    /// A reader that began by the data page, and goes on by it, must notice that it was gone meanwhile: by a sequence that is
    /// another than when it went.
    fn wait_for_publication(&self, before: [u32; 2]) -> io::Result<()> {
        let end = Instant::now() + LONGEST_WAIT;
        while self.sequences().iter().zip(before).any(|(now, before)| *now == before) {
            if Instant::now() > end {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::hint::spin_loop();
        }
        Ok(())
    }

    fn sequences(&self) -> [u32; 2] {
        [&self.data.hres, &self.data.raw].map(|source| source.sequence.load(Ordering::Relaxed))
    }

    /// Changes a site by one store of the eight bytes that it lies in.
    fn patch(&self, site: &Site, member: bool) {
        assert!(site.is_atomic(), "the image aligns its branches");
        let bytes = if member { site.member } else { site.host };
        let word = site.offset & !7;
        // SAFETY: the word lies in the alias, which is mapped and aligned to a page.
        let place = unsafe { self.alias.byte_add(word) }.cast::<AtomicU64>();
        // SAFETY: mapped for as long as this lives, and any bytes are a value.
        let place = unsafe { place.as_ref() };
        let mut value = place.load(Ordering::Relaxed).to_le_bytes();
        value[site.offset - word..][..bytes.len()].copy_from_slice(&bytes);
        place.store(u64::from_le_bytes(value), Ordering::Release);
    }

    /// Copies code over a site, byte for byte.
    fn copy(&self, site: &Site, member: bool) {
        for (at, byte) in (if member { site.member } else { site.host }).into_iter().enumerate() {
            // SAFETY: the byte lies in the alias.
            let place = unsafe { self.alias.byte_add(site.offset + at) }.cast::<AtomicU8>();
            // SAFETY: mapped for as long as this lives, and any byte is a value.
            unsafe { place.as_ref() }.store(byte, Ordering::Relaxed);
        }
    }

    /// Maps a file into the place.
    fn put(&self, offset: usize, len: usize, protection: ProtFlags, file: impl AsFd) -> io::Result<()> {
        // SAFETY: the range lies in the place.
        let address = unsafe { self.place.byte_add(offset) }.as_ptr().cast();
        // SAFETY: what was mapped there is ours; code and data for readers, who are prepared for one or the other.
        unsafe { mmap(address, len, protection, MapFlags::SHARED | MapFlags::FIXED, file, 0) }?;
        Ok(())
    }
}

/// Makes the processors that run threads of this process take the code that was written (`membarrier(2)`): one vendor
/// promises that they do by themselves, another does not.
fn serialize() -> io::Result<()> {
    const SYNC_CORE: i32 = 1 << 5;
    const REGISTER_SYNC_CORE: i32 = 1 << 6;
    for command in [SYNC_CORE, REGISTER_SYNC_CORE, SYNC_CORE] {
        // SAFETY: takes no pointers.
        if unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) } == 0 && command == SYNC_CORE {
            return Ok(());
        }
    }
    Err(io::Error::last_os_error())
}

/// `clock_gettime(2)` as images have it.
pub type ClockGettime = unsafe extern "C" fn(u32, *mut [i64; 2]) -> i32;

impl Drop for Vdso {
    fn drop(&mut self) {
        for (start, len) in [(self.place, 2 * PAGE + self.code_len), (self.alias, self.code_len)] {
            // SAFETY: nothing runs there any more, as whoever drops this knows. Cannot fail for whole mappings.
            let _ = unsafe { munmap(start.as_ptr().cast(), len) };
        }
    }
}

/// A file with an image, its sites as for whoever is no member.
fn code_file(image: &[u8], len: usize, sites: &[Site]) -> io::Result<OwnedFd> {
    let file = File::from(memfd_create(c"vdso", MemfdFlags::CLOEXEC)?);
    file.set_len(len as u64)?;
    file.write_all_at(image, 0)?;
    for site in sites {
        file.write_all_at(&site.host, site.offset as u64)?;
    }
    Ok(file.into())
}
