//! The timens page and the image as sealed memory files, mapped by members.

use crate::error::{Error, Result, Step};
use elsewhen_vdso::image;
use elsewhen_vdso::page::{PAGE_SIZE, TimensPage};
use elsewhen_vdso::state::STATE_SIZE;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

/// Where the page lies in every member; the image follows it.
///
/// Above `vm.mmap_min_addr`, below the base of every linker's fixed-address programs. The same in every member
/// of every namespace, because what is inherited over `execve(2)` refers to it.
pub const PAGE_ADDRESS: u64 = IMAGE_ADDRESS - PAGE_SIZE as u64;

/// Where each member keeps its own state, below the page.
pub const STATE_ADDRESS: u64 = PAGE_ADDRESS - STATE_SIZE as u64;

/// Where the image lies in every member.
pub const IMAGE_ADDRESS: u64 = 0x10_0000;

/// Bytes that the mapped image takes: whole pages.
pub const fn image_len() -> u64 {
    (image::X86_64.len() as u64).next_multiple_of(PAGE_SIZE as u64)
}

/// The namespace's page, mapped writable here. Members get the file and map it read-only.
#[derive(Debug)]
pub struct PageFile {
    file: File,
    page: NonNull<TimensPage>,
}

// SAFETY: the mapping belongs to this value until it is dropped, and everything that changes behind it is an
// atomic.
unsafe impl Send for PageFile {}
// SAFETY: as above; `TimensPage` has no other interior than atomics.
unsafe impl Sync for PageFile {}

impl PageFile {
    /// Makes a new page with identity maps.
    ///
    /// # Errors
    /// Where the kernel refuses a memory file or its mapping.
    pub fn create(name: &str) -> Result<Self> {
        let file = memory_file("elsewhen-page", MemfdFlags::NOEXEC_SEAL)?;
        file.write_all_at(&TimensPage::initial_bytes(name), 0).step(|| "write the timens page".into())?;
        // SAFETY: a fresh mapping at an address of the kernel's choice disturbs nothing.
        let mapping = unsafe {
            mmap(std::ptr::null_mut(), PAGE_SIZE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)
        };
        let mapping = mapping.step(|| "map the timens page".into())?;
        // From here on nobody, not even a member of the same user with the file in hand, can write or resize it.
        fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::FUTURE_WRITE | SealFlags::SEAL)
            .step(|| "seal the timens page".into())?;
        let page = NonNull::new(mapping.cast()).ok_or_else(|| Error::refused("the kernel mapped the page at 0"))?;
        Ok(Self { file, page })
    }

    /// The page.
    pub fn page(&self) -> &TimensPage {
        // SAFETY: mapped in `create`, readable and writable, aligned as pages are, initialised as a valid page,
        // and unmapped only when `self` is dropped.
        unsafe { self.page.as_ref() }
    }
}

impl PageFile {
    /// What identifies the page among mappings.
    pub(crate) fn inode(&self) -> Option<u64> {
        self.file.metadata().ok().map(|metadata| std::os::unix::fs::MetadataExt::ino(&metadata))
    }
}

impl Drop for PageFile {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `create` with this size, and no reference outlives `self`.
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
    let file = match memory_file("elsewhen-vdso", MemfdFlags::EXEC) {
        // MFD_EXEC is of Linux 6.3; before that every memory file can be executed.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => memory_file("elsewhen-vdso", MemfdFlags::empty())?,
        other => other?,
    };
    file.write_all_at(image::X86_64, 0).step(|| "write the image".into())?;
    file.set_len(image_len()).step(|| "fill the image's last page".into())?;
    fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::WRITE | SealFlags::SEAL)
        .step(|| "seal the image".into())?;
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
