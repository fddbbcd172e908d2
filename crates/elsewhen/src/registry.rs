//! Where named namespaces are found: a folder of the user's with a file for each, which is its page, and `.lock`, by which writers
//! exclude each other.
//!
//! `/run/elsewhen` for root; for others `$XDG_RUNTIME_DIR/elsewhen`, or `/tmp/elsewhen-UID`. Root has one whatever its session is,
//! since services have none and are to be found from one. `$ELSEWHEN_RUNTIME_DIR/elsewhen` goes before all of them.

use crate::error::{Error, Result};
use elsewhen_linux::page::{self, PageFile, Place};
use elsewhen_linux::waiters;
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the folder of this user's named namespaces is, or would be.
pub fn folder_path() -> PathBuf {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = elsewhen_linux::process::user();
    // Root of a user namespace, as in engines without root, has its user's.
    let is_root = user == 0 && elsewhen_linux::process::is_in_first_user_namespace();
    let of_session = absolute("XDG_RUNTIME_DIR").filter(|_| !is_root);
    match (absolute("ELSEWHEN_RUNTIME_DIR").or(of_session), user) {
        (Some(runtime), _) => runtime.join("elsewhen"),
        (None, 0) => PathBuf::from("/run/elsewhen"),
        (None, user) => PathBuf::from(format!("/tmp/elsewhen-{user}")),
    }
}

/// That folder. It exists when this returns, and nobody else can look into it.
///
/// # Errors
/// Where it cannot be made, or is not such a folder.
pub fn folder() -> Result<PathBuf> {
    let user = elsewhen_linux::process::user();
    let folder = folder_path();
    let shown = folder.display();
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(Error::setup(format!("make the folder of named namespaces, {shown}: {error}")));
        }
        _ => {}
    }
    let metadata = fs::symlink_metadata(&folder).map_err(|error| Error::setup(format!("look at {shown}: {error}")))?;
    if !metadata.is_dir() || metadata.uid() != user || metadata.mode() & 0o077 != 0 {
        return Err(Error::setup(format!(
            "{shown} is not a folder that only you can look into; remove it, or set ELSEWHEN_RUNTIME_DIR"
        )));
    }
    Ok(folder)
}

/// The names of all namespaces, in order, without those that nothing keeps any more.
///
/// # Errors
/// As [`folder`].
pub(crate) fn names() -> Result<Vec<String>> {
    let folder = folder()?;
    clean(&folder);
    let mut names: Vec<String> = entries(&folder).collect();
    names.sort_unstable();
    Ok(names)
}

fn entries(folder: &Path) -> impl Iterator<Item = String> + use<> {
    let found = fs::read_dir(folder).into_iter().flatten();
    found.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(|name| !name.starts_with('.'))
}

/// Removes namespaces that have neither members nor anyone who holds them, and were not made to stay.
pub(crate) fn clean(folder: &Path) {
    for name in
        fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok())
    {
        // `.PID.NUMBER`: what a process was about to give a name.
        let maker = name.strip_prefix('.').and_then(|rest| rest.split_once('.')?.0.parse().ok());
        if maker.is_some_and(|maker| !elsewhen_linux::process::exists(maker)) {
            let _ = fs::remove_file(folder.join(name));
        }
    }
    for name in entries(folder) {
        // What cannot be removed, as another process has just done it, stays for the next time.
        let _ = page::remove_unused(folder, &name, |file| is_persistent(file) || has_members(folder, &name));
    }
}

fn is_persistent(file: &File) -> bool {
    let mut bytes = vec![0; elsewhen_vdso::page::PAGE_SIZE];
    let read = std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, 0);
    // What is no page is not ours to remove.
    read.is_err() || elsewhen_vdso::page::Snapshot::decode(&bytes).is_none_or(|page| page.persistent)
}

/// Whether a process maps the page of that name.
fn has_members(folder: &Path, name: &str) -> bool {
    let Ok(inode) = fs::metadata(folder.join(name)).map(|metadata| metadata.ino()) else { return false };
    // Whatever device is shown for it: one too many keeps an entry for a while.
    waiters::with_page().any(|(_, place)| place.inode == inode)
}

/// Makes a namespace's page, once its name is free.
///
/// # Errors
/// Where it is not, or the folder cannot be used.
pub(crate) fn create(name: &str, make: impl Fn(&Path) -> elsewhen_linux::Result<PageFile>) -> Result<PageFile> {
    /// How long a supervisor may take to end after the last member.
    const PATIENCE: Duration = Duration::from_secs(1);
    let folder = folder()?;
    let end = Instant::now() + PATIENCE;
    loop {
        clean(&folder);
        match make(&folder) {
            Err(error) if error.is_taken() => {}
            other => return other.map_err(Error::from),
        }
        let stays = File::open(folder.join(name)).is_ok_and(|file| is_persistent(&file));
        if stays || has_members(&folder, name) || Instant::now() > end {
            return Err(Error::invalid(format!(
                "there is a namespace {name:?} already: run a program in it with `elsewhen exec`, change it with `elsewhen \
                 set`, or take another name"
            )));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Opens a namespace's page.
///
/// # Errors
/// Where there is none of that name.
pub(crate) fn open(name: &str) -> Result<PageFile> {
    let folder = folder()?;
    clean(&folder);
    check(name)?;
    PageFile::open_in(&folder, name).map_err(|error| match error.is_gone() {
        true => Error::not_found(format!("there is no namespace {name:?}; see `elsewhen ls`")),
        false => error.into(),
    })
}

/// Refuses what is no name, and so might be a path.
pub(crate) fn check(name: &str) -> Result<()> {
    crate::spec::Spec::new().with_name(name).map(drop).map_err(Error::from)
}

/// The page at a place.
pub(crate) fn at(place: &Place) -> Option<PageFile> {
    by_inode(place.inode).filter(|page| page.place().as_ref() == Some(place))
}

/// The page with an inode, which is one of this folder's.
fn by_inode(inode: u64) -> Option<PageFile> {
    let folder = folder().ok()?;
    let is_it = |name: &String| fs::symlink_metadata(folder.join(name)).is_ok_and(|file| file.ino() == inode);
    let page = PageFile::open_in(&folder, &entries(&folder).find(is_it)?).ok()?;
    // Its name may have been taken meanwhile.
    (page.inode() == inode).then_some(page)
}

/// Says, to the supervisor of a process, that it may give that the page with an inode. Taken back when it is dropped.
#[derive(Debug)]
pub(crate) struct Grant(PathBuf);

impl Grant {
    /// # Errors
    /// Where the folder cannot be written to.
    pub(crate) fn new(pid: u32, inode: u64) -> Result<Self> {
        let path = folder()?.join(Self::name(pid, inode));
        let made = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
        made.map_err(|error| Error::setup(format!("write to {}: {error}", path.display())))?;
        Ok(Self(path))
    }

    /// The page with an inode, if the process may have it.
    pub(crate) fn page(pid: u32, inode: u64) -> Option<PageFile> {
        folder().ok()?.join(Self::name(pid, inode)).exists().then(|| by_inode(inode))?
    }

    fn name(pid: u32, inode: u64) -> String {
        format!(".{pid}.page-{inode}")
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        // What stays is removed when the process has ended.
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes a namespace; see [`Namespace::remove`](crate::Namespace::remove).
pub(crate) fn remove(name: &str, force: bool) -> Result<()> {
    let folder = folder()?;
    clean(&folder);
    check(name)?;
    let missing = || Error::not_found(format!("there is no namespace {name:?}; see `elsewhen ls`"));
    if force {
        return fs::remove_file(folder.join(name)).map_err(|_| missing());
    }
    match page::remove_unused(&folder, name, |_| has_members(&folder, name)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::refused(format!(
            "the namespace {name:?} has members, or a process holds it; see `elsewhen show`"
        ))),
        Err(error) if error.is_gone() => Err(missing()),
        Err(error) => Err(error.into()),
    }
}
