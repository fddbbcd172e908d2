//! The timens page and the image as sealed memory files, mapped by members.

use crate::error::{Error, Result, Step};
use crate::filter::Filter;
use elsewhen_vdso::clock::TIMELINES;
use elsewhen_vdso::image;
use elsewhen_vdso::page::{COUNTER_AT, Identity, Map, PAGE_SIZE, TimensPage};
use elsewhen_vdso::state::STATE_SIZE;
use elsewhen_vdso::surface::Reach;
use rustix::fs::{
    CWD, FlockOperation, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, flock, memfd_create, openat,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::thread::futex;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

/// Where the page lies in every member; the image follows it.
///
/// On x86 above `vm.mmap_min_addr`, below the base of every linker's fixed-address programs. The same in every member
/// of every namespace, because what is inherited over `execve(2)` refers to it.
pub const PAGE_ADDRESS: u64 = IMAGE_ADDRESS - PAGE_SIZE as u64;

/// Where each member keeps its own state, below the page.
pub const STATE_ADDRESS: u64 = PAGE_ADDRESS - STATE_SIZE as u64;

/// Where the image lies in every member.
#[cfg(target_arch = "x86_64")]
pub const IMAGE_ADDRESS: u64 = 0x10_0000;

/// Where the image lies in every member: programs of Go begin at 0x10000 on arm64, others of a fixed address soon behind that,
/// with a heap that grows upwards; from 64 GiB on lies what AddressSanitizer needs.
#[cfg(target_arch = "aarch64")]
pub const IMAGE_ADDRESS: u64 = 0xf_0000_0000;

/// Bytes that the mapped image takes: whole pages.
pub const fn image_len() -> u64 {
    (image::IMAGE.len() as u64).next_multiple_of(PAGE_SIZE as u64)
}

/// The namespace's page, mapped writable here. Members get a file that they can only read, and map it read-only.
///
/// Of a namespace without a name it is a sealed memory file that nobody else can ever write. Of one with a name it is a
/// file of its owner's, which other processes of the same user open to change the namespace.
#[derive(Debug)]
pub struct PageFile {
    /// What members are given.
    file: File,
    /// The file by which holders are known; `None` where there is one writer.
    shared: Option<Shared>,
    page: NonNull<TimensPage>,
}

/// What processes of one user share of a page with a name.
#[derive(Debug)]
struct Shared {
    file: File,
    /// By which writers exclude each other: of the folder, with a byte for each page. Members never get it, and so cannot lock it.
    lock: File,
}

// SAFETY: the mapping belongs to this value until it is dropped, and everything that changes behind it is an
// atomic.
unsafe impl Send for PageFile {}
// SAFETY: as above; `TimensPage` has no other interior than atomics.
unsafe impl Sync for PageFile {}

impl PageFile {
    /// Makes the page of a namespace without a name in the file system, with its first maps.
    ///
    /// # Errors
    /// Where the kernel refuses a memory file or its mapping.
    pub fn create(identity: Identity<'_>, maps: &[Map; TIMELINES]) -> Result<Self> {
        let file = memory_file("elsewhen-page", MemfdFlags::NOEXEC_SEAL)?;
        file.write_all_at(&TimensPage::initial_bytes(identity), 0).step(|| "write the timens page".into())?;
        let page = map(&file)?;
        let made = Self { file, shared: None, page };
        made.page().publish(maps);
        // From here on nobody, not even a member of the same user with the file in hand, can write or resize it.
        fcntl_add_seals(&made.file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::FUTURE_WRITE | SealFlags::SEAL)
            .step(|| "seal the timens page".into())?;
        Ok(made)
    }

    /// Makes the page of a namespace with a name, as a file of that name in a folder, with its first maps.
    ///
    /// # Errors
    /// Where the name is taken (`EEXIST`), or the folder cannot be written to.
    pub fn create_in(folder: &Path, identity: Identity<'_>, maps: &[Map; TIMELINES]) -> Result<Self> {
        let path = folder.join(identity.name);
        let step = || format!("make the namespace {:?}", identity.name);
        // Complete before it has its name.
        let hidden = folder.join(format!(".{}.{}", std::process::id(), identity.seed));
        let shared = File::options().read(true).write(true).create_new(true).mode(0o600).open(&hidden).step(step)?;
        let made = (|| {
            shared.write_all_at(&TimensPage::initial_bytes(identity), 0).step(step)?;
            let lock = lock_file(folder).step(step)?;
            let mut made = Self { file: open_for_members(&hidden).step(step)?, page: map(&shared)?, shared: None };
            made.page().publish(maps);
            flock(&shared, FlockOperation::LockShared).step(step)?;
            fs::hard_link(&hidden, &path).step(step)?;
            made.shared = Some(Shared { file: shared, lock });
            Ok(made)
        })();
        let _ = fs::remove_file(&hidden);
        made
    }

    /// Opens the page of a namespace with a name. It is not removed while this value lives.
    ///
    /// # Errors
    /// Where there is none (`ENOENT`), or the file is not a page of this version.
    pub fn open_in(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        let step = || format!("open the namespace {name:?}");
        loop {
            let shared =
                File::options().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(&path).step(step)?;
            let file = open_for_members(&path).step(step)?;
            flock(&shared, FlockOperation::LockShared).step(step)?;
            let metadata = shared.metadata().step(step)?;
            if !metadata.is_file() || metadata.len() != PAGE_SIZE as u64 {
                return Err(Error::refused(format!("{} is not the page of a namespace", path.display())));
            }
            // Removed before the lock was had: whoever comes next makes a new one.
            if metadata.nlink() == 0 || file.metadata().step(step)?.ino() != metadata.ino() {
                continue;
            }
            let lock = lock_file(folder).step(step)?;
            let opened = Self { file, page: map(&shared)?, shared: Some(Shared { file: shared, lock }) };
            if !opened.page().is_valid() {
                return Err(Error::refused(format!("the namespace {name:?} is of another version of elsewhen")));
            }
            return Ok(opened);
        }
    }

    /// The page.
    pub fn page(&self) -> &TimensPage {
        // SAFETY: mapped when this value was made, readable and writable, aligned as pages are, initialised as a valid
        // page, and unmapped only when `self` is dropped.
        unsafe { self.page.as_ref() }
    }

    /// The page's counter.
    fn counter(&self) -> &AtomicU32 {
        // SAFETY: the counter lies within the page.
        let counter = unsafe { self.page.cast::<AtomicU32>().byte_add(COUNTER_AT) };
        // SAFETY: it is an atomic of this size there too, mapped until `self` is dropped.
        unsafe { counter.as_ref() }
    }

    /// Ends every [`await_change`](Self::await_change), in all processes. Returns how many there were.
    pub fn announce(&self) -> usize {
        // Fails for no address of ours.
        futex::wake(self.counter(), futex::Flags::empty(), u32::MAX >> 1).unwrap_or(0)
    }

    /// Waits until a change has been announced, unless the page's counter is another than that already.
    pub fn await_change(&self, counter: u32) {
        // A wait that fails is over, and who waits looks again.
        let _ = futex::wait(self.counter(), futex::Flags::empty(), counter, None);
    }

    /// Excludes other processes from writing while the returned value lives.
    ///
    /// # Errors
    /// Where another process does not stop writing for some seconds.
    pub fn lock(&self) -> Result<WriteLock<'_>> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let Some(shared) = &self.shared else { return Ok(WriteLock(None)) };
        let end = Instant::now() + PATIENCE;
        let at = self.inode();
        loop {
            match set_lock(&shared.lock, libc::F_WRLCK, at) {
                Ok(()) => return Ok(WriteLock(Some((&shared.lock, at)))),
                Err(error) if !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
                    return Err(Error::new("lock the timens page", error));
                }
                Err(_) if Instant::now() > end => {
                    return Err(Error::refused("another process has been changing the namespace for seconds"));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// What identifies the page among mappings.
    pub fn place(&self) -> Option<Place> {
        // Some file systems show another device there than `stat(2)` tells.
        let maps = fs::read_to_string("/proc/self/maps").ok()?;
        let mut mappings = maps.lines().filter_map(Mapping::parse);
        mappings.find(|mapping| mapping.start == self.page.as_ptr().addr() as u64).map(|mapping| mapping.place())
    }

    /// Whether it had a name that has been removed since.
    pub fn is_removed(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0))
    }

    /// No longer counts as a holder.
    pub fn let_go(&self) {
        if let Some(shared) = &self.shared {
            // Fails for no lock that is held.
            let _ = flock(&shared.file, FlockOperation::Unlock);
        }
    }

    /// The file that members are given.
    ///
    /// # Errors
    /// Where this process has too many descriptors.
    pub fn members_file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// The inode of the page's file.
    pub fn inode(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.ino())
    }

    /// Whether it is a file with a name.
    pub const fn is_named(&self) -> bool {
        self.shared.is_some()
    }
}

/// What identifies a file among mappings, as `/proc/PID/maps` shows it. An inode alone does not: whoever makes files on a file
/// system of their own can have any.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    device: String,
    /// The inode.
    pub inode: u64,
}

/// A line of `/proc/PID/maps`, in part.
pub(crate) struct Mapping<'a> {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) device: &'a str,
    pub(crate) inode: u64,
}

impl<'a> Mapping<'a> {
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let (device, inode) = (words.nth(2)?, words.next()?);
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some(Self { start: number(start)?, end: number(end)?, device, inode: inode.parse().ok()? })
    }

    pub(crate) fn place(&self) -> Place {
        Place { device: self.device.to_owned(), inode: self.inode }
    }
}

/// Lets other processes write again when it is dropped.
#[derive(Debug)]
pub struct WriteLock<'a>(Option<(&'a File, u64)>);

impl Drop for WriteLock<'_> {
    fn drop(&mut self) {
        if let Some((file, at)) = self.0 {
            // Fails for no lock that is held.
            let _ = set_lock(file, libc::F_UNLCK, at);
        }
    }
}

/// The file of a folder by which writers of its pages exclude each other.
fn lock_file(folder: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(folder.join(".lock"))
}

/// Opens what members are given. Where this process may (`CAP_SYS_ADMIN`), it is opened through a mount of its own that nobody
/// can write by: a member that runs as the file's owner, as root of a container does, could open it anew for writing otherwise
/// (`/proc/PID/fd`).
fn open_for_members(path: &Path) -> io::Result<File> {
    let plain = || File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
    read_only_mount(path).map_or_else(plain, |mount| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = path.file_name().unwrap_or_default();
        Ok(openat(&mount, name, flags, Mode::empty())?.into())
    })
}

/// The folder of a file, in a read-only mount that is nowhere in the tree.
fn read_only_mount(path: &Path) -> Option<OwnedFd> {
    /// The start of `struct mount_attr` (linux/mount.h).
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    const READ_ONLY: u64 = 1;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, path.parent()?, flags).ok()?;
    let attributes = MountAttr { set: READ_ONLY, clear: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the kernel reads an empty string and as many bytes of attributes as it is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    (result == 0).then_some(mount)
}

/// Sets a lock of a byte by the open file (`F_OFD_SETLK`), which another open file of the same process respects too.
fn set_lock(file: &File, kind: libc::c_int, at: u64) -> io::Result<()> {
    // SAFETY: all zeros is a valid value of this plain struct.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_start = (at & (i64::MAX as u64 >> 1)) as i64;
    lock.l_len = 1;
    // SAFETY: the kernel reads one `flock`.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Removes the file of a page from a folder, unless a process holds it or, by what `is_used` says, maps it. False where it
/// stays.
///
/// # Errors
/// Where there is none, or it may not be removed.
pub fn remove_unused(folder: &Path, name: &str, is_used: impl FnOnce(&File) -> bool) -> Result<bool> {
    let path = folder.join(name);
    let step = || format!("remove the namespace {name:?}");
    let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(&path).step(step)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() || is_used(&file) {
        return Ok(false);
    }
    // Nobody opens it now; but it may have been removed, and its name been taken, before it was locked.
    if file.metadata().step(step)?.nlink() > 0 {
        fs::remove_file(&path).step(step)?;
    }
    Ok(true)
}

fn map(file: &File) -> Result<NonNull<TimensPage>> {
    // SAFETY: a fresh mapping at an address of the kernel's choice disturbs nothing.
    let mapping =
        unsafe { mmap(std::ptr::null_mut(), PAGE_SIZE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0) };
    let mapping = mapping.step(|| "map the timens page".into())?;
    NonNull::new(mapping.cast()).ok_or_else(|| Error::refused("the kernel mapped the page at 0"))
}

impl Drop for PageFile {
    fn drop(&mut self) {
        // SAFETY: mapped when this value was made, with this size, and no reference outlives `self`.
        let unmapped = unsafe { munmap(self.page.as_ptr().cast(), PAGE_SIZE) };
        debug_assert!(unmapped.is_ok(), "munmap of our own mapping");
    }
}

impl AsFd for PageFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A memory file that holds the image.
///
/// # Errors
/// Where the kernel refuses an executable memory file (`vm.memfd_noexec=2`, for one).
pub fn image_file() -> Result<File> {
    let file = executable_file("elsewhen-vdso")?;
    file.write_all_at(image::IMAGE, 0).step(|| "write the image".into())?;
    file.set_len(image_len()).step(|| "fill the image's last page".into())?;
    fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::WRITE | SealFlags::SEAL)
        .step(|| "seal the image".into())?;
    Ok(file)
}

/// A memory file with a program.
#[cfg(target_arch = "x86_64")]
pub(crate) fn program_file(program: &[u8]) -> Result<File> {
    let file = executable_file("elsewhen-program")?;
    file.write_all_at(program, 0).step(|| "write a program".into())?;
    // Nobody may write what is to be executed: opened anew, for reading.
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).step(|| "open a program".into())
}

/// A memory file that may be executed.
fn executable_file(name: &str) -> Result<File> {
    match memory_file(name, MemfdFlags::EXEC) {
        // MFD_EXEC is of Linux 6.3; before that every memory file can be executed.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => memory_file(name, MemfdFlags::empty()),
        other => other,
    }
}

/// A memory file with a page that changes nothing, which nobody can write to.
///
/// # Errors
/// Where the kernel refuses a memory file.
pub fn identity_file() -> Result<File> {
    let file = memory_file("elsewhen-page", MemfdFlags::NOEXEC_SEAL)?;
    let identity = Identity { name: "", reach: Reach::from_bits(0), persistent: false, delegated: false, seed: 0 };
    file.write_all_at(&TimensPage::initial_bytes(identity), 0).step(|| "write the timens page".into())?;
    fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::FUTURE_WRITE | SealFlags::SEAL)
        .step(|| "seal the timens page".into())?;
    Ok(file)
}

/// A memory file with a filter, as the image loads it: the number of instructions in eight bytes, then those.
///
/// # Errors
/// Where the kernel refuses a memory file.
pub(crate) fn filter_file(filter: &Filter) -> Result<File> {
    let file = memory_file("elsewhen-filter", MemfdFlags::NOEXEC_SEAL)?;
    let instructions = filter.instructions();
    let mut bytes = (instructions.len() as u64).to_le_bytes().to_vec();
    bytes.extend(crate::filter::bytes(instructions));
    file.write_all_at(&bytes, 0).step(|| "write the filter".into())?;
    Ok(file)
}

fn memory_file(name: &str, flags: MemfdFlags) -> Result<File> {
    let flags = flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let made = match memfd_create(name, flags) {
        // MFD_NOEXEC_SEAL is of Linux 6.3 too.
        Err(rustix::io::Errno::INVAL) if flags.contains(MemfdFlags::NOEXEC_SEAL) => {
            memfd_create(name, flags - MemfdFlags::NOEXEC_SEAL)
        }
        other => other,
    };
    Ok(File::from(made.step(|| format!("make the memory file {name}"))?))
}
